"""PALM in the ordinary trainer: ranks, resumption, heads on a frozen tower, and what is wrong with classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import runner
from pyarrow import parquet
from run_ranks import run_on_ranks
from safetensors.torch import load_file
from tiny_training import COLOURS, TrainOnce, draw_picture, same_weights, with_changes
from torch import Tensor

from export.graphs.fingerprint import fingerprint
from protoclip import Detector
from protoclip.contract.errors import ConfigError, DataError
from protoclip.detection.vectors import checked
from protoclip.prototypes.heads import Heads
from protoclip.runs.metrics import read_metrics
from protoclip.runs.model import load_model
from protoclip.runs.palm import load_classes, load_mixture
from protoclip.search import Index
from protoclip.training.defaults import config_from_data
from protoclip.training.preview import preview_run
from protoclip.training.session import build_session
from protoclip.training.train import train


def exact(num_ranks: int, folder: Path, *broken: str) -> dict[str, Tensor]:
    out = folder / f"{num_ranks}.safetensors"
    run_on_ranks("exact_palm.py", num_ranks, str(out), *broken)
    return load_file(out)


def assert_close(found: Tensor, expected: Tensor, name: str) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("broken", [(), ("0", "1", "2", "3", "4", "5", "9", "23")], ids=["whole", "some broken"])
def test_losses_prototypes_and_gradients_are_those_of_one_process(tmp_path: Path, broken: tuple[str, ...]) -> None:
    """Of four ranks the first has no picture at all, where some are broken."""
    alone = exact(1, tmp_path, *broken)
    assert len(alone) > 100
    for num_ranks in (2, 4):
        several = exact(num_ranks, tmp_path, *broken)
        assert several.keys() == alone.keys()
        for name, value in alone.items():
            assert_close(several[name], value, f"{num_ranks} ranks: {name}")
    for name in (name for name in alone if " whole: " in name):
        assert_close(alone[name.replace(" whole: ", " in parts: ")], alone[name], f"in parts: {name}")


@pytest.fixture
def values(shapes_config: dict[str, Any]) -> dict[str, Any]:
    """A run of 36 steps, six passes, with twelve classes of six pictures."""
    shapes_config["data"] = {**shapes_config["data"], "group_column": None, "class_column": "kind"}
    shapes_config["loss"] = {"objective": "palm"}
    shapes_config["palm"] = {"per_class": 3}
    shapes_config["episode"]["lit_episodes"] = 0
    shapes_config["train"] |= {"steps": 36, "checkpoint_every_steps": 15}
    return shapes_config


def test_classes_are_learned_and_their_prototypes_kept(values: dict[str, Any], trained_once: TrainOnce) -> None:
    run = trained_once(with_changes(values))
    lines = [line for line in read_metrics(run) if line["kind"] == "step"]
    assert {line["stage"] for line in lines} == {"palm"}
    first, last = (np.mean([line["loss_mixture"] for line in part]) for part in (lines[:6], lines[-6:]))
    assert last < first - 0.5
    assert np.mean([line["class_accuracy"] for line in lines[-6:]]) > 0.3
    names, labels = load_classes(run)
    assert (len(names), names[0]) == (12, "blue bar")
    np.testing.assert_array_equal(labels, np.repeat(labels[::6], 6))
    classes, mixture = load_mixture(run)
    assert classes == names
    assert mixture.mixture.prototypes.shape == (36, 8)
    np.testing.assert_allclose(np.linalg.norm(mixture.mixture.prototypes, axis=1), 1.0, atol=1e-6)


def test_numpy_projects_as_the_head_does(values: dict[str, Any], trained_once: TrainOnce) -> None:
    run = trained_once(with_changes(values))
    heads = Heads(16, 8, hidden_dim=16)
    heads.add_prototypes(torch.zeros(36, 8))
    heads.load_state_dict(load_file(run / "heads.safetensors"))
    vectors = torch.nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    _, mixture = load_mixture(run)
    with torch.inference_mode():
        expected = heads.eval().image(vectors)
    np.testing.assert_allclose(mixture.project(vectors.numpy()), expected.numpy(), atol=1e-5)
    cosines = expected @ heads.get_buffer("prototypes").T
    np.testing.assert_allclose(mixture.score(vectors.numpy()), cosines.max(dim=1).values.numpy(), atol=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(
    values: dict[str, Any], trained_once: TrainOnce, tmp_path: Path
) -> None:
    config = with_changes(values)
    whole = trained_once(config)
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step_00000036")
    (run / "model.safetensors").unlink()
    train(config, run, resume=True, quiet=True)
    assert same_weights(whole, run)
    ours, theirs = (load_file(folder / "heads.safetensors") for folder in (run, whole))
    assert "prototypes" in theirs
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_only_a_head_is_trained_on_a_frozen_tower(values: dict[str, Any], trained_once: TrainOnce) -> None:
    """From another run's weights, which stay as they are."""
    start = trained_once(with_changes(values))
    weights = str(start / "model.safetensors")
    run = trained_once(with_changes(values, model={"weights": weights, "lock": "image"}, train={"steps": 6}))
    assert same_weights(start, run)
    ours, theirs = (load_file(folder / "heads.safetensors") for folder in (run, start))
    changed = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    assert {"image.layers.0.weight", "prototypes"} <= changed
    assert not {name for name in changed if name.startswith("text") or name == "log_scale"}


def test_prototypes_of_a_run_stand_for_classes(
    values: dict[str, Any], trained_once: TrainOnce, shapes_file: Path, tmp_path: Path
) -> None:
    protoclip = with_changes(
        values, loss={"objective": "protoclip"}, data={"class_column": None}, train={"steps": 12}
    )
    of = trained_once(protoclip)
    config = with_changes(values, data={"class_column": None}, palm={"clusters_of": str(of)}, train={"steps": 6})
    names, labels = load_classes(trained_once(config))
    clusters = load_file(of / "prototypes.safetensors")["labels_image"].numpy()
    assert 2 <= len(names) <= 6
    assert [names[label] for label in labels] == [f"prototype {cluster}" for cluster in clusters]
    table = parquet.read_table(shapes_file)
    turned = tmp_path / "turned.parquet"
    parquet.write_table(table.take(np.arange(len(table))[::-1]), turned)
    for text_columns in (["texts"], ["kind"]):
        where = {"class_column": None, "path": [str(turned)], "text_columns": text_columns}
        other = with_changes(values, data=where, palm={"clusters_of": str(of)}, train={"steps": 6})
        with pytest.raises(DataError, match=r"clusters of other pictures, or of these in another order"):
            preview_run(other, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"class_column": "sort"}}, r"column 'sort' isn't there: it has image, texts, kind"),
        ({"data": {"class_column": None}}, r"data\.class_column: .*'class' is not in the data"),
        ({"data": {"group_column": "kind"}}, r"data\.group_column=kind: .* set data\.group_column=none"),
        ({"episode": {"lit_episodes": 1}}, r"episode\.lit_episodes=1 trains texts"),
        ({"teacher": {"path": "t.npy"}}, r"teacher\.path has no part in loss\.objective='palm': leave it out"),
        ({"validation": {"fraction": 0.5}}, r"leave validation\.split and validation\.fraction out"),
        ({"palm": {"clusters_of": "runs/x"}}, r"both name the classes: leave one of them out"),
        (
            {"data": {"class_column": None}, "palm": {"clusters_of": "runs/x"}},
            r"clusters_of=runs/x: no prototypes\.safetensors here",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(
    values: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        preview_run(with_changes(values, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)


def with_kinds(source: Path, path: Path, kinds: list[str | None]) -> str:
    table = parquet.read_table(source)
    parquet.write_table(table.drop_columns("kind").append_column("kind", [kinds]), path)
    return str(path)


def test_columns_without_two_classes_are_named(values: dict[str, Any], shapes_file: Path, tmp_path: Path) -> None:
    cases: list[tuple[list[str | None], str]] = [
        (["one"] * 72, r"data\.class_column=kind: 'one' is the only class, .* give two or more"),
        ([None, " "] * 36, r"data\.class_column=kind: no picture has a class"),
    ]
    for kinds, message in cases:
        path = with_kinds(shapes_file, tmp_path / "kinds.parquet", kinds)
        with pytest.raises(DataError, match=message):
            preview_run(with_changes(values, data={"path": [path]}), tmp_path / "run")


def test_rare_and_unknown_classes_are_counted_and_may_not_change(
    values: dict[str, Any], shapes_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: list[str | None] = ["a", "b", None, *["c"] * 69]
    path = with_kinds(shapes_file, tmp_path / "kinds.parquet", kinds)
    config = with_changes(values, data={"path": [path]}, train={"steps": 6})
    run = train(config, tmp_path / "run", quiet=True)
    assert "1 of 72 pictures have no class and teach nothing" in caplog.text
    assert "2 of 3 classes, such as 'a', have one picture" in caplog.text
    assert load_classes(run)[1].tolist()[:4] == [0, 1, -1, 2]
    with_kinds(shapes_file, tmp_path / "kinds.parquet", ["a", "c", None, *["b"] * 69])
    with pytest.raises(
        DataError, match=r"are of other classes than when the run began: bring those back, or train"
    ):
        train(config, run, resume=True, quiet=True)


def test_class_folders_need_no_settings(tiny_model: str, tmp_path: Path) -> None:
    for colour in COLOURS:
        folder = tmp_path / "pictures" / colour
        folder.mkdir(parents=True)
        for seed in range(8):
            (folder / f"{seed}.png").write_bytes(draw_picture(colour, "disc", seed))
    settings = ["loss.objective=palm", f"model.name={tiny_model}", "train.device=cpu"]
    config, choices = config_from_data(tmp_path / "pictures", settings)
    assert config.is_palm
    assert config.data.group_column is None
    assert not config.validation.fraction
    assert "clustering.num_prototypes" not in {choice.setting for choice in choices}
    session = build_session(config, lambda items, _: items, only_planned=True)
    assert session.classes is not None
    assert session.classes.names == ("blue", "green", "red", "yellow")


def test_a_table_of_classes_needs_no_captions(tiny_model: str, shapes_file: Path, tmp_path: Path) -> None:
    table = parquet.read_table(shapes_file).select(["image", "colour"])
    parquet.write_table(table, tmp_path / "colours.parquet")
    settings = ["loss.objective=palm", "data.class_column=colour", f"model.name={tiny_model}", "train.device=cpu"]
    config, _ = config_from_data(tmp_path / "colours.parquet", settings)
    session = build_session(config, lambda items, _: items, only_planned=True)
    assert session.classes is not None
    assert session.classes.names == ("blue", "green", "red", "yellow")


def test_a_runs_prototypes_become_a_detector_of_its_embeddings(
    values: dict[str, Any],
    trained_once: TrainOnce,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = runner(monkeypatch, capsys)
    trained = trained_once(with_changes(values))
    vectors = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    own = fingerprint(load_model(trained))
    for name, identity in (("own", own), ("other", "0123456789abcdef")):
        with Index.create(tmp_path / name, identity, 16, model=f"shop_{name}") as index:
            index.add(vectors, [f"{number}.png" for number in range(40)])
    fit = ("detect", "fit", tmp_path / "own", tmp_path / "shop.detector", "--run", trained)
    outcome = run(*fit)
    assert outcome.code == 0, outcome.err
    detector = Detector.open(tmp_path / "shop.detector")
    assert (detector.kind, detector.num_fit, detector.fingerprint) == ("palm", 72, own)
    np.testing.assert_allclose(detector.score(vectors), load_mixture(trained)[1].score(checked(vectors)))
    assert "is another model" in run("detect", "fit", tmp_path / "other", tmp_path / "x", "--run", trained).err
    assert "--kind energy is learned from the index" in run(*fit, "--kind", "energy").err
    assert "--label, --group-by and --centre are of no use" in run(*fit, "--label", "kind").err


def test_the_plan_counts_classes(values: dict[str, Any], tmp_path: Path) -> None:
    planned = preview_run(with_changes(values), tmp_path / "run")
    assert (planned.classes, planned.prototypes) == (12, 36)
    assert [span.stage for span in planned.stages] == ["palm"]
    assert "classes.safetensors" in {file.name for file in planned.files}
