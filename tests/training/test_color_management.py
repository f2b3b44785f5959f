"""Colours of pictures with a profile: a run says how it takes them, and its folder, export and index follow."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from icc_profiles import DISPLAY_P3, matrix_profile
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save_file
from tiny_training import same_weights, with_changes

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import create_module
from protoclip.runs.files import CONFIG_FILE, load_run_config
from protoclip.training.preview import preview_run
from protoclip.training.train import train


def without_a_word_on_colors(run: Path) -> None:
    """As a run of the versions before there was a choice."""
    values = json.loads((run / CONFIG_FILE).read_text())
    del values["model"]["color_management"]
    (run / CONFIG_FILE).write_text(json.dumps(values))
    folder = json.loads((run / "open_clip_config.json").read_text())
    del folder["color_management"]
    (run / "open_clip_config.json").write_text(json.dumps(folder))


@pytest.fixture(scope="module")
def p3_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 plain colours of Display P3, as PNG."""
    rows: list[dict[str, Any]] = []
    for number in range(48):
        color = np.random.default_rng(number).integers(0, 256, 3, dtype=np.uint8)
        stream = io.BytesIO()
        picture = Image.new("RGB", (20, 20), tuple(color.tolist()))
        picture.save(stream, "PNG", icc_profile=matrix_profile(DISPLAY_P3))
        rows.append({"image": stream.getvalue(), "text": f"number {number}"})
    path = tmp_path_factory.mktemp("p3") / "p3.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def config(shapes_config: dict[str, Any], p3_file: Path) -> dict[str, Any]:
    shapes_config["data"] = {"path": [str(p3_file)]}
    shapes_config["train"] |= {"steps": 6, "checkpoint_every_steps": 2, "keep_checkpoints": 9}
    shapes_config["episode"] = {"lit_episodes": 0}
    return shapes_config


def test_a_new_run_takes_srgb_and_says_so(config: dict[str, Any], p3_file: Path, tmp_path: Path) -> None:
    managed = train(build_config(config, "test"), tmp_path / "managed", quiet=True)
    stored = train(with_changes(config, model={"color_management": "stored"}), tmp_path / "stored", quiet=True)
    again = train(with_changes(config, model={"color_management": "srgb"}), tmp_path / "again", quiet=True)
    assert json.loads((managed / CONFIG_FILE).read_text())["model"]["color_management"] == "srgb"
    assert load_clip(managed).pixels.color_management == "srgb"
    assert load_clip(stored).pixels.color_management == "stored"
    assert same_weights(managed, again)
    assert not same_weights(managed, stored)  # it learned from other pixels
    # Weights by name, of a run: as the run beside them says.
    weights = {"weights": managed / "model.safetensors"}
    assert load_clip(config["model"]["name"], **weights).pixels.color_management == "srgb"
    assert load_clip(config["model"]["name"]).pixels == PixelSpec(16, 16)


def test_pictures_without_profiles_train_to_the_same_bytes(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    shapes_config["train"] |= {"steps": 6}
    shapes_config["episode"] = {"lit_episodes": 0}
    runs = [
        train(with_changes(shapes_config, model={"color_management": way}), tmp_path / way, quiet=True)
        for way in ("srgb", "stored")
    ]
    assert same_weights(*runs)


def test_the_default_with_weights_is_what_they_learned_from(config: dict[str, Any]) -> None:
    def of(**model: Any) -> str:
        return with_changes(config, model=model).model.color_management

    assert (of(), of(weights="w.pt"), of(weights="w.pt", color_management="srgb")) == ("srgb", "stored", "srgb")
    assert of(color_management=None) == "srgb"
    least = RunConfig.model_validate({"data": {"path": "a.csv"}, "train": {"steps": 1}})
    assert least.model.color_management == "srgb"
    with pytest.raises(ConfigError, match=r"model\.color_management: Input should be 'srgb' or 'stored'"):
        of(color_management="p3")


def test_weights_that_know_other_colours_are_told_of(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = train(build_config(config, "test"), tmp_path / "managed", quiet=True)
    save_file(
        {name: value.contiguous() for name, value in create_module(config["model"]["name"]).state_dict().items()},
        tmp_path / "published.safetensors",
    )
    for weights, way, told in (
        (managed / "model.safetensors", None, "learned from pictures with model.color_management='srgb'"),
        (managed / "model.safetensors", "srgb", None),
        (tmp_path / "published.safetensors", None, None),
        (tmp_path / "published.safetensors", "srgb", "learned from pictures with model.color_management='stored'"),
    ):
        caplog.clear()
        changed = with_changes(config, model={"weights": str(weights), "color_management": way})
        with caplog.at_level(logging.WARNING):
            preview_run(changed, tmp_path / "next")
        assert ("learned from" in caplog.text) == (told is not None)
        assert told is None or told in caplog.text


def test_a_run_of_an_earlier_version_goes_on_as_it_began(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = train(with_changes(config, model={"color_management": "stored"}), tmp_path / "stored", quiet=True)
    old = tmp_path / "old"
    shutil.copytree(stored, old)
    without_a_word_on_colors(old)
    assert load_run_config(old).model.color_management == "stored"
    assert load_clip(old).pixels == PixelSpec(16, 16)
    (old / "model.safetensors").unlink()
    for step in (4, 6):
        shutil.rmtree(old / "checkpoints" / f"step_{step:08d}")
    new = build_config(config, "test")
    preview_run(new, old, resume=True)
    with caplog.at_level(logging.WARNING):
        train(new, old, resume=True, quiet=True)
    assert "an earlier version began it, with colours as stored: it goes on with these" in caplog.text
    assert same_weights(old, stored)
    assert json.loads((old / CONFIG_FILE).read_text())["model"]["color_management"] == "stored"


def test_a_run_is_not_taken_up_with_other_colours(config: dict[str, Any], tmp_path: Path) -> None:
    run = train(build_config(config, "test"), tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="resume"):
        train(with_changes(config, model={"color_management": "stored"}), run, resume=True, quiet=True)


def test_a_folder_that_says_something_else_is_named(config: dict[str, Any], tmp_path: Path) -> None:
    run = train(build_config(config, "test"), tmp_path / "run", quiet=True)
    folder = json.loads((run / "open_clip_config.json").read_text())
    (run / "open_clip_config.json").write_text(json.dumps(folder | {"color_management": "p3"}))
    with pytest.raises(ModelError, match="color_management is 'p3': it must be 'srgb' or 'stored'"):
        load_clip(run)


def test_open_clip_still_loads_the_folder(config: dict[str, Any], tmp_path: Path) -> None:
    import open_clip

    run = train(build_config(config, "test"), tmp_path / "run", quiet=True)
    module = open_clip.create_model(f"local-dir:{run}", pretrained_text=False)
    ours = load_clip(run).module.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in module.state_dict().items())


def test_the_export_takes_colours_as_the_run_does(config: dict[str, Any], p3_file: Path, tmp_path: Path) -> None:
    from export.artifact import export_artifact
    from export.parity.samples import Samples
    from export.verify_artifact import verify_artifact
    from protoclip import Client
    from protoclip.contract.manifest import MANIFEST_FILE, load_manifest

    run = train(build_config(config, "test"), tmp_path / "run", quiet=True)
    pictures = [row["image"] for row in parquet.read_table(p3_file).to_pylist()]
    samples = Samples(tuple(pictures[:20]), tuple(f"number {number}" for number in range(20)), "test")
    artifact = tmp_path / "artifact"
    clip = load_clip(run)
    manifest = export_artifact(clip, artifact, "colors", samples)
    assert manifest.pixels.color_management == "srgb"
    assert manifest.engine.verdict.passed
    assert not (load_pixels(pictures[0], manifest.pixels) == load_pixels(pictures[0], PixelSpec(16, 16))).all()
    with Client(str(artifact)) as client:
        managed = client.embed_images(pictures[:4])
    # A manifest that says otherwise is found out, by the samples and by the picture that every verdict has.
    path = artifact / MANIFEST_FILE
    path.write_text(path.read_text().replace('"color_management": "srgb"', '"color_management": "stored"'))
    assert load_manifest(artifact).pixels.color_management == "stored"
    [report] = verify_artifact(artifact, clip, samples).engines
    assert {failure.split(":")[0] for failure in report.failures} == {"image, from files"}
    with Client(str(artifact)) as client:
        assert np.abs(client.embed_images(pictures[:4]) - managed).max() > 1e-3
    # One of a version before there was a choice has no such field, and takes pictures as stored.
    path.write_text(path.read_text().replace(',\n    "color_management": "stored"', ""))
    assert "color_management" not in path.read_text()
    assert load_manifest(artifact).pixels.color_management == "stored"
