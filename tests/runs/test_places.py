"""A run that was interrupted is evaluated and exported from its best or last checkpoint."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from tiny_training import TrainOnce, with_changes

from export.graphs.source import load_source
from export.parity.reference import torch_reference
from export.parity.samples import pick_samples
from export.target import default_name
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.progress import silent
from protoclip.data.table import load_pairs
from protoclip.encoders.loading import load_clip
from protoclip.encoders.registry import model_config
from protoclip.evaluation.run import evaluate_run, result_path
from protoclip.runs.files import load_run_config
from protoclip.runs.model import load_model
from protoclip.runs.places import find_weights
from protoclip.sources import ReadOptions
from protoclip.training.train import train


@pytest.fixture
def config(shapes_config: dict[str, Any]) -> RunConfig:
    return with_changes(
        shapes_config,
        data={"group_column": None},
        train={"checkpoint_every_steps": 8, "keep_checkpoints": 3, "batch_size": 6, "steps": 24},
        validation={"fraction": 0.2, "every_steps": 4},
        episode={"lit_episodes": 0},
    )


@pytest.fixture
def finished(config: RunConfig, trained_once: TrainOnce, tmp_path: Path) -> Path:
    return shutil.copytree(trained_once(config), tmp_path / "shapes")


@pytest.fixture
def interrupted(finished: Path) -> Path:
    """As a run looks that was killed after its last checkpoint."""
    for name in ("model.safetensors", "heads.safetensors", "prototypes.safetensors"):
        (finished / name).unlink(missing_ok=True)
    return finished


def _measured(run: Path) -> dict[int, float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["value"] for line in lines if line["kind"] == "validation"}


def _same(module: torch.nn.Module, file: Path) -> bool:
    ours, theirs = module.state_dict(), load_file(file)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_finished_run_is_itself(finished: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = find_weights(finished)
    assert found is not None
    assert (found.folder, found.step, found.name) == (finished, None, "shapes")
    assert _same(load_model(finished).module, finished / "model.safetensors")
    assert find_weights("ViT-B-32") is find_weights(finished.parent) is None
    assert caplog.text == ""


def test_an_interrupted_run_stands_for_its_best_with_one_warning(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measured = _measured(interrupted)
    best = max(sorted(measured), key=lambda step: measured[step])
    with caplog.at_level(logging.WARNING):
        clip = load_source(interrupted).clip
    assert clip.source == f"shapes at step {best}"
    assert _same(clip.module, interrupted / f"best/step_{best:08d}/model.safetensors")
    [record] = caplog.records
    assert f"{interrupted}: the run is not finished: its best checkpoint is taken, step {best}" in record.message


def test_without_a_best_or_where_the_last_is_kept_it_stands_for_its_last(interrupted: Path) -> None:
    config = json.loads((interrupted / "config.json").read_text())
    (interrupted / "config.json").write_text(
        json.dumps(config | {"validation": {**config["validation"], "keep": "last"}})
    )
    assert load_model(interrupted).source == "shapes at step 24"
    (interrupted / "config.json").write_text(json.dumps(config))
    shutil.rmtree(interrupted / "best")
    assert load_model(interrupted).source == "shapes at step 24"
    assert "its last checkpoint is taken, step 24" in find_weights(interrupted).warning  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "step"),
    [("last", 24), ("checkpoints/step_00000016", 16), ("checkpoints/step_8", 8)],
)
def test_a_checkpoint_is_named(interrupted: Path, name: str, step: int, caplog: pytest.LogCaptureFixture) -> None:
    clip = load_model(interrupted / name)
    assert clip.source == f"shapes at step {step}"
    assert _same(clip.module, interrupted / f"checkpoints/step_{step:08d}/model.safetensors")
    assert default_name(interrupted / name) == "shapes"
    assert caplog.text == ""


def test_the_verdict_says_the_step(interrupted: Path) -> None:
    samples = pick_samples(load_pairs(load_run_config(interrupted).data), "shapes", count=8)
    reference = torch_reference(load_source(interrupted / "last").clip, samples, silent)
    assert reference.described.startswith("shapes at step 24 in torch ")


def test_of_two_bests_the_better_and_then_the_earlier(interrupted: Path) -> None:
    [best] = (interrupted / "best").iterdir()
    step = int(best.name.removeprefix("step_"))
    for other, change in ((3, 0.0), (step + 1, 0.0), (step + 2, -0.1)):
        copy = shutil.copytree(best, best.with_name(f"step_{other:08d}"))
        values = json.loads((copy / "validation.json").read_text())
        (copy / "validation.json").write_text(json.dumps(values | {"value": values["value"] + change}))
    assert load_model(interrupted / "best").source == "shapes at step 3"
    (interrupted / "best/step_00000003/validation.json").write_text("torn")
    with pytest.raises(ModelError, match=r"step_00000003/validation\.json: can't be read: name another"):
        find_weights(interrupted / "best")


def test_open_clip_loads_a_checkpoint_by_itself(interrupted: Path) -> None:
    import open_clip

    folder = interrupted / "checkpoints/step_00000016"
    assert _same(open_clip.create_model(f"local-dir:{folder}"), folder / "model.safetensors")


def test_a_checkpoint_is_evaluated_beside_the_run(finished: Path) -> None:
    whole, part = evaluate_run(finished), evaluate_run(finished / "checkpoints/step_16")
    assert (whole.source, part.source) == ("shapes", "shapes at step 16")
    assert part.clusters == ()
    assert result_path(finished / "checkpoints/step_16") == finished / "evaluation-step_16.json"
    other = ReadOptions(("other.csv",))
    assert result_path(finished / "last", other) == finished / "evaluation-step_24-other.json"
    assert {path.name for path in finished.glob("evaluation*")} == {"evaluation.json", "evaluation-step_16.json"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "",
            r"shapes: ended before its first checkpoint, so it has no weights yet: go on with `protoclip train",
        ),
        ("best", r"shapes/best: nothing was validated yet: name .*shapes itself, or go on"),
        ("last", r"shapes/last: no checkpoint was saved yet"),
        ("checkpoints/step_9", r"step_9: no such checkpoint: .*checkpoints holds the steps none"),
    ],
)
def test_a_run_that_ended_before_its_first_checkpoint(interrupted: Path, name: str, message: str) -> None:
    for folder in ("best", "checkpoints"):
        shutil.rmtree(interrupted / folder)
    for load in (load_source, evaluate_run):
        with pytest.raises(ModelError, match=message) as caught:
            load(interrupted / name)
        assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_said(interrupted: Path) -> None:
    with pytest.raises(ModelError, match=r"step_9: no such checkpoint: .*holds the steps 8, 16, 24"):
        load_model(interrupted / "checkpoints/step_9")
    with pytest.raises(ConfigError, match=r"is a folder with weights of its own"):
        load_source(interrupted / "last", weights=Path("w.pt"))
    last = interrupted / "checkpoints/step_00000024"
    (last / "open_clip_config.json").unlink()
    with pytest.raises(
        ModelError, match=r"saved by an earlier version, without open_clip_config\.json: copy .*shapes/o"
    ):
        load_model(interrupted / "last")
    (interrupted / "open_clip_config.json").unlink()
    with pytest.raises(ModelError, match=r"without open_clip_config\.json: go on with `protoclip train"):
        load_model(interrupted / "last")


@pytest.mark.parametrize("start", ["words", "weights"])
def test_a_checkpoint_is_what_the_run_would_be_if_it_ended_there(
    shapes_config: dict[str, Any], tmp_path: Path, tiny_model: str, start: str
) -> None:
    """Words in no training text are moved, and the end is mixed with the start: not yet done in a checkpoint."""
    import open_clip

    if start == "words":
        words = ["red", "green", "blue", "square", "disc", "bar", "ball", "violet"]
        features = torch.randn(len(words), 8, generator=torch.Generator().manual_seed(0)).tolist()
        parquet.write_table(pa.table({"word": words, "feature": features}), tmp_path / "words.parquet")
        model = {"word_vectors": str(tmp_path / "words.parquet")}
    else:
        save_file(open_clip.create_model(tiny_model).state_dict(), tmp_path / "start.safetensors")
        model = {"weights": str(tmp_path / "start.safetensors"), "interpolate": 0.5}
    config = with_changes(shapes_config, model={**shapes_config["model"], **model})
    run = train(config, tmp_path / "run", quiet=True)
    whole = load_clip(run)
    (run / "model.safetensors").unlink()
    part = load_model(run)
    assert _same(whole.module, run / "checkpoints/step_00000024/model.safetensors") is False
    for name, value in part.module.state_dict().items():
        torch.testing.assert_close(value, whole.module.state_dict()[name], rtol=0, atol=0)
    assert (part.temperature, part.logit_bias) == (whole.temperature, whole.logit_bias)


@pytest.mark.parametrize(
    ("alignment", "bias", "kind"), [("infonce", None, "softmax"), ("sigmoid", -3.0, "sigmoid")]
)
def test_logits_of_a_run_are_those_that_it_was_trained_with(
    shapes_config: dict[str, Any], tmp_path: Path, alignment: str, bias: float | None, kind: str
) -> None:
    """The loss decides whether the model's bias counts; the factor is clamped, mixed with a larger start too."""
    import open_clip

    architecture = {**model_config("tiny-trainable"), "init_logit_bias": -3.0}
    (tmp_path / "tiny-biased.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(tmp_path / "tiny-biased.json")
    start = open_clip.create_model("tiny-biased").state_dict()
    save_file(start | {"logit_scale": torch.tensor(112.3).log()}, tmp_path / "start.safetensors")
    model = {"name": "tiny-biased", "weights": str(tmp_path / "start.safetensors"), "interpolate": 0.5}
    config = with_changes(shapes_config, model={**shapes_config["model"], **model}, loss={"alignment": alignment})
    run = train(config, tmp_path / "run", quiet=True)
    assert float(load_file(run / "model.safetensors")["logit_scale"]) <= math.log(100) + 1e-6
    clip = load_model(run)
    assert clip.temperature == pytest.approx(100, rel=1e-3)
    assert clip.temperature <= 100 + 1e-4
    assert (clip.logit_bias, clip.probabilities) == (pytest.approx(bias, abs=0.5) if bias else None, kind)
    (run / "model.safetensors").unlink()
    part = load_model(run)
    assert (part.temperature, part.logit_bias) == (clip.temperature, clip.logit_bias)


def test_a_folder_of_the_hub_is_no_run(tiny_model: str, tmp_path: Path) -> None:
    """Some hold the config.json of another library beside open_clip's."""
    import open_clip

    module = open_clip.create_model(tiny_model)
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    config = {"model_cfg": model_config(tiny_model), "preprocess_cfg": open_clip.get_model_preprocess_cfg(module)}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["CLIPModel"]}))
    assert load_model(tmp_path).temperature == pytest.approx(1 / 0.07, rel=1e-5)
