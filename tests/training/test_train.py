from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from tiny_training import TrainOnce

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError, ModelError, ProtoclipError
from protoclip.distributed.interruption import Interrupted
from protoclip.runs.metrics import read_metrics
from protoclip.training.checkpoint import last_checkpoint
from protoclip.training.train import train


def with_changes(values: dict[str, Any], **sections: dict[str, Any]) -> RunConfig:
    merged = {name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}}
    return build_config(merged, "test")


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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


@pytest.mark.parametrize(
    ("source", "stop"), [*(("extract", n) for n in (3, 9, 12, 20)), *(("stream", n) for n in (5, 6, 8, 12))]
)
def test_a_resumed_run_is_the_uninterrupted_one(
    shapes_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    stop: int,
    trained_once: TrainOnce,
) -> None:
    """Stopped in warm-up, inside a main episode, between episodes, and in LiT; the bank half full, and full."""
    config = with_changes(
        shapes_config, train={"checkpoint_every_steps": 1}, prototypes={"source": source}, episode={"repeats": 2}
    )
    whole = trained_once(config)

    def die_after(step: int) -> None:
        from protoclip.training.loop import Trainer

        save = Trainer._save

        def save_then_die(self: Trainer, position: Any) -> None:
            save(self, position)
            if position.step == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(Trainer, "_save", save_then_die)

    die_after(stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "torn", quiet=True)
    monkeypatch.undo()
    assert not (tmp_path / "torn" / "model.safetensors").exists()
    torn = train(config, tmp_path / "torn", resume=True, quiet=True)
    assert same_weights(whole, torn)
    steps = [line["step"] for line in read_metrics(torn) if line["kind"] == "step"]
    assert steps == list(range(1, 25))
    assert without_times(whole) == without_times(torn)


def without_times(run: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "pairs_per_s")
    return [{k: v for k, v in line.items() if not k.startswith(timed)} for line in read_metrics(run)]


def test_a_signal_saves_and_ends_the_run(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(shapes_config, train={"steps": 100_000, "checkpoint_every_steps": 100_000})

    def send() -> None:
        while not (tmp_path / "run" / "metrics.jsonl").exists() or not read_metrics(tmp_path / "run"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Interrupted, match="go on with --resume") as caught:
        train(config, tmp_path / "run", quiet=True)
    sender.join()
    assert caught.value.exit_code == 143
    saved = last_checkpoint(tmp_path / "run")
    assert saved is not None
    assert json.loads((saved / "position.json").read_text())["step"] > 0


def test_old_checkpoints_are_removed(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    run = train(with_changes(shapes_config, train={"checkpoint_every_steps": 5}), tmp_path / "run", quiet=True)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_00000020", "step_00000024"]


def test_checkpoints_come_by_time_too(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    train_settings = {"checkpoint_every_minutes": 1e-9, "keep_checkpoints": 100}
    run = train(with_changes(shapes_config, train=train_settings), tmp_path / "run", quiet=True)
    assert len(list((run / "checkpoints").iterdir())) == 24


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "targets.safetensors", "position.json"]
)
def test_a_torn_checkpoint_costs_no_more_than_itself(
    shapes_config: dict[str, Any],
    tmp_path: Path,
    file: str,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    config = with_changes(shapes_config, train={"checkpoint_every_steps": 7, "keep_checkpoints": 3})
    whole, torn = trained_once(config), tmp_path / "torn"
    shutil.copytree(whole, torn)
    for step in (21, 24):
        path = torn / "checkpoints" / f"step_{step:08d}" / file
        path.write_bytes(path.read_bytes()[:-9])
    (torn / "model.safetensors").unlink()
    mine = torn / "checkpoints" / "step_mine"
    mine.mkdir()
    with caplog.at_level(logging.WARNING):
        train(config, torn, resume=True, quiet=True)
    assert mine.is_dir()
    mine.rmdir()
    assert "step_00000024 is damaged: going on from the checkpoint before" in caplog.text
    assert same_weights(whole, torn)
    assert sorted(path.name for path in (torn / "checkpoints").glob("step_*")) == [
        f"step_{step:08d}" for step in (14, 21, 24)
    ]


def test_no_checkpoint_that_can_be_read(
    shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    config = with_changes(shapes_config)
    run = tmp_path / "run"
    shutil.copytree(trained_once(config), run)
    saved = last_checkpoint(run)
    assert saved is not None
    (saved / "optimizer.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"step_00000024: can't be resumed from: .*: train anew"):
        train(config, run, resume=True, quiet=True)
    assert last_checkpoint(run) == saved


def test_a_run_is_not_overwritten(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(shapes_config, train={"steps": 2}, episode={"lit_episodes": 0})
    run = train(config, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="holds a run already: add --resume"):
        train(config, run, quiet=True)
    with pytest.raises(ConfigError, match="differs from this configuration"):
        train(with_changes(shapes_config), run, resume=True, quiet=True)


def test_a_finished_run_loads_in_open_clip(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    import open_clip

    from protoclip.encoders.model import encode_images, encode_texts, load_clip

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
    assert any("2 of 72 pictures can't be read and are left out" in message for message in messages)
    assert any("left out: row 5: " in message for message in messages)
    assert any("unreadable pictures were replaced" in message for message in messages)


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
