from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from tiny_training import TrainOnce, same_weights, with_changes

from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.runs.metrics import read_metrics
from protoclip.training.train import train


def test_a_run_learns_and_goes_through_its_stages(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(shapes_config, train={"steps": 96}, optim={"learning_rate": 2e-3})
    run = train(config, tmp_path / "run", quiet=True)
    steps = [line for line in read_metrics(run) if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 97))
    assert [line["episode"] for line in steps] == [step // 6 for step in range(96)]
    assert [steps[i]["stage"] for i in (0, 5, 6, 89, 90, 95)] == ["warmup"] * 2 + ["main"] * 2 + ["lit"] * 2
    assert steps[-1]["loss_clip"] < 0.7 * steps[0]["loss_clip"]
    main = [line for line in steps if line["stage"] == "main"]
    assert all(line["loss_proto"] is not None for line in main)
    assert main[-1]["loss_proto"] < main[0]["loss_proto"]
    episodes = [line for line in read_metrics(run) if line["kind"] == "episode"]
    assert [line["episode"] for line in episodes] == list(range(1, 15))
    prototypes = load_file(run / "prototypes.safetensors")
    assert prototypes["centroids_image"].shape == (6, 8)
    assert prototypes["labels_text"].min() >= 0
    assert len(prototypes["labels_text"]) == 72


def test_lit_leaves_the_image_tower_alone(
    shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    before = train(
        with_changes(
            shapes_config, train={"steps": 18}, episode={"lit_episodes": 0}, optim={"final_learning_rate": 0.0}
        ),
        tmp_path / "before",
        quiet=True,
    )
    after = trained_once(with_changes(shapes_config, train={"steps": 24}))
    a, b = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a if name.startswith("visual."))
    assert not torch.equal(a["text_projection"], b["text_projection"])


def test_warmup_does_not_move_the_heads_but_their_statistics(
    shapes_config: dict[str, Any], tmp_path: Path
) -> None:
    """Two lengths of warm-up from one seed: equal weights, other running means."""
    heads = []
    for steps in (2, 5):
        config = with_changes(shapes_config, train={"steps": steps}, episode={"lit_episodes": 0})
        heads.append(load_file(train(config, tmp_path / str(steps), quiet=True) / "heads.safetensors"))
    weights = [name for name in heads[0] if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in weights)
    assert not torch.equal(heads[0]["image.layers.1.running_mean"], heads[1]["image.layers.1.running_mean"])


def test_without_a_prototype_loss_nothing_is_clustered(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    """And the run is the one whose warm-up never ends, LiT included."""
    plain = train(with_changes(shapes_config, loss={"proto_weight": 0}), tmp_path / "plain", quiet=True)
    endless = train(with_changes(shapes_config, episode={"warmup_episodes": 9}), tmp_path / "endless", quiet=True)
    lines = read_metrics(plain)
    assert {line["stage"] for line in lines if line["kind"] == "step"} == {"clip", "lit"}
    assert not [line for line in lines if line["kind"] == "episode"]
    assert same_weights(plain, endless)


def test_the_same_seed_gives_the_same_weights(
    shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    config = with_changes(shapes_config)
    runs = trained_once(config), train(config, tmp_path / "again", quiet=True)
    assert same_weights(*runs)
    other = train(with_changes(shapes_config, train={"seed": 1}), tmp_path / "c", quiet=True)
    assert not same_weights(runs[0], other)


def test_workers_change_nothing(shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce) -> None:
    plain = trained_once(with_changes(shapes_config))
    workers = train(with_changes(shapes_config, train={"num_workers": 2}), tmp_path / "workers", quiet=True)
    assert same_weights(plain, workers)


def test_reading_again_gives_what_the_cache_gives(
    shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    kept = trained_once(with_changes(shapes_config))
    read = train(with_changes(shapes_config, data={"cache_mb": 0}), tmp_path / "read", quiet=True)
    assert same_weights(kept, read)


def test_a_run_is_not_overwritten(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(shapes_config, train={"steps": 2}, episode={"lit_episodes": 0})
    run = train(config, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="holds a run already: add --resume"):
        train(config, run, quiet=True)


def test_a_finished_run_loads_in_open_clip(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    import open_clip

    from protoclip.encoders.loading import load_clip
    from protoclip.encoders.model import encode_images, encode_texts

    config = with_changes(shapes_config, train={"steps": 2}, episode={"lit_episodes": 0})
    run = train(config, tmp_path / "run", quiet=True)
    clip = load_clip(run)
    module = open_clip.create_model(f"local-dir:{run}").eval()
    pixels = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    tokens = torch.randint(1, 400, (3, 8))
    images = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(clip.mean).view(1, 3, 1, 1)) / torch.tensor(
        clip.std
    ).view(1, 3, 1, 1)
    with torch.inference_mode():
        np.testing.assert_allclose(
            encode_images(clip, pixels), module.encode_image(images, normalize=True), atol=1e-6
        )
        np.testing.assert_allclose(
            encode_texts(clip, tokens), module.encode_text(tokens, normalize=True), atol=1e-6
        )
    assert clip.source == "run"
    assert clip.embedding_dim == 16


def test_an_external_teacher_adds_its_loss(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.parquet"
    colours = ["red", "green", "blue", "yellow"]
    features = np.eye(4, dtype=np.float32).tolist()
    parquet.write_table(pa.table({"colour": colours, "feature": features}), teacher)
    config = with_changes(
        shapes_config, teacher={"path": str(teacher), "key_column": "colour", "num_prototypes": 4}
    )
    run = train(config, tmp_path / "run", quiet=True)
    losses = [line["loss_ext"] for line in read_metrics(run) if line["kind"] == "step" and line["stage"] == "main"]
    assert all(loss is not None and loss > 0 for loss in losses)


def test_a_diverged_run_says_so_and_keeps_its_checkpoint(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(
        shapes_config, optim={"learning_rate": 1e30, "warmup_steps": 0}, train={"checkpoint_every_steps": 1}
    )
    with pytest.raises(ProtoclipError, match=r"the loss is (nan|inf): lower optim.learning_rate"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_broken_pictures_are_left_out_with_a_count(
    shapes_config: dict[str, Any], shapes_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = parquet.read_table(shapes_file).to_pylist()
    rows[5]["image"] = b"not a picture"
    rows[9]["image"] = rows[9]["image"][:40]
    path = tmp_path / "broken.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    for cache_mb in (100, 0):
        config = with_changes(
            shapes_config, data={"path": [str(path)], "cache_mb": cache_mb}, train={"batch_size": 10}
        )
        with caplog.at_level(logging.WARNING):
            run = train(config, tmp_path / str(cache_mb), quiet=True)
        assert (run / "model.safetensors").exists()
    messages = [record.getMessage() for record in caplog.records]
    assert any("2 rows and files are left out: " in message for message in messages)
    assert any(f"left out: {path}: row 5: " in message for message in messages)
    assert any("2 pairs were left out of their batches" in message for message in messages)
    assert sum(f"left out: {path}: row 5: " in message for message in messages) == 2


def test_no_readable_picture_at_all(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("image,texts,kind\n" + "".join(f"gone{i}.png,a thing,{i}\n" for i in range(40)))
    with pytest.raises(DataError, match="none of the 40 pictures can be read"):
        train(with_changes(shapes_config, data={"path": [str(path)]}), tmp_path / "run", quiet=True)


def test_weights_come_last(shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies while it writes its results is not taken for finished."""

    def fail(*_: Any) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr("protoclip.training.run_folder._prototypes", fail)
    with pytest.raises(OSError, match="disk gone"):
        train(with_changes(shapes_config), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"name": "ViT-B-33"}, "model 'ViT-B-33' is unknown.*did you mean ViT-B-"),
        ("model", {"weights": "/nowhere/x.safetensors"}, "weights /nowhere/x.safetensors: no such file"),
        ("data", {"path": ["/nowhere.csv"]}, "data.path: /nowhere.csv: no such file"),
        ("data", {"group_column": "product"}, "column 'product' isn't there: it has"),
        ("data", {"text_columns": ["caption"]}, "column 'caption' isn't there"),
        ("train", {"batch_size": 100}, "train.batch_size=100 is more than the pairs"),
        ("train", {"device": "cuda"}, "torch sees no GPU here"),
        ("clustering", {"num_prototypes": 500}, "clustering.num_prototypes=500 needs at least 500 pairs"),
        ("loss", {"alignment": "sigmoid"}, "needs a model with a logit bias"),
        ("teacher", {"path": "/nowhere.npy"}, "teacher.path: /nowhere.npy: no such file"),
    ],
)
def test_what_does_not_fit_is_named(
    shapes_config: dict[str, Any], tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    if section == "train" and torch.cuda.is_available() and "device" in values:
        values = {"batch_size": 100}
        message = "train.batch_size=100"
    with pytest.raises(ProtoclipError, match=message):
        train(with_changes(shapes_config, **{section: values}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
