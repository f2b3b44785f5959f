from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from protoclip.config.load import build_config, load_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.encoders.model import create_module
from protoclip.training.defaults import config_from_data
from protoclip.training.train import train

TOML = '[data]\npath = "pairs.csv"\n[model]\nweights = "w.safetensors"\n'


@pytest.fixture
def start(tiny_model: str, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "start.safetensors"
    save_file({k: v.contiguous() for k, v in create_module(tiny_model).state_dict().items()}, path)
    return path


def from_start(values: dict[str, Any], start: Path, **model: Any) -> RunConfig:
    changed = {**values, "model": {**values["model"], "weights": str(start), **model}}
    changed["episode"] = {"lit_episodes": 0}
    return build_config(changed, "test")


def test_the_end_is_mixed_with_the_start(shapes_config: dict[str, Any], start: Path, tmp_path: Path) -> None:
    begun = load_file(start)
    runs = {
        alpha: load_file(
            train(from_start(shapes_config, start, interpolate=alpha), tmp_path / str(alpha), quiet=True)
            / "model.safetensors"
        )
        for alpha in (0.0, 0.25, 1.0)
    }
    assert all(torch.equal(begun[name], runs[0.0][name]) for name in begun)
    assert any(not torch.allclose(begun[name], runs[1.0][name], atol=1e-3) for name in begun)
    for name in begun:
        mixed = 0.75 * begun[name].double() + 0.25 * runs[1.0][name].double()
        torch.testing.assert_close(runs[0.25][name].double(), mixed, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("lock", ["image", "text"])
def test_a_locked_tower_stays(shapes_config: dict[str, Any], start: Path, tmp_path: Path, lock: str) -> None:
    begun = load_file(start)
    run = train(from_start(shapes_config, start, lock=lock), tmp_path / "run", quiet=True)
    ended = load_file(run / "model.safetensors")
    moved = {name for name in begun if not torch.equal(begun[name], ended[name])}
    image = {name for name in begun if name.startswith("visual.")}
    text = set(begun) - image - {"logit_scale"}
    assert moved.isdisjoint(image if lock == "image" else text)
    assert moved & (text if lock == "image" else image)
    assert "logit_scale" in moved


def test_a_locked_tower_keeps_its_statistics(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(3)
    begun = {k: v.contiguous() for k, v in create_module("protoclip-mini-48").state_dict().items()}
    path = tmp_path / "mini.safetensors"
    save_file(begun, path)
    values = {**shapes_config, "train": {**shapes_config["train"], "steps": 8}}
    config = from_start(values, path, name="protoclip-mini-48", lock="image")
    ended = load_file(train(config, tmp_path / "run", quiet=True) / "model.safetensors")
    statistics = [name for name in begun if "running_mean" in name]
    assert statistics
    assert all(torch.equal(begun[name], ended[name]) for name in statistics)


def test_lit_with_a_locked_text_tower_trains_nothing(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    values = {**shapes_config, "model": {**shapes_config["model"], "lock": "text"}}
    with pytest.raises(ConfigError, match=r"leaves nothing to train in episode\.lit_episodes"):
        train(build_config(values, "test"), tmp_path / "run", quiet=True)


def test_a_preset_stands_below_file_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(TOML + "[optim]\nweight_decay = 0.3\n")
    config = load_config(path, ["optim.clip_norm=7"], preset="finetune")
    assert (config.optim.learning_rate, config.optim.weight_decay, config.optim.clip_norm) == (1e-5, 0.3, 7)
    assert (config.model.interpolate, config.episode.lit_episodes, config.train.passes) == (0.5, 0, 5)
    assert load_config(path, ["train.steps=9"], preset="finetune").train.passes is None
    assert load_config(path, ["train.steps=9"], preset="scratch") == load_config(path, ["train.steps=9"])


def test_a_preset_with_the_data(tmp_path: Path, start: Path, tiny_model: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("image,text\n" + "".join(f"{i}.png,thing {i}\n" for i in range(60)))
    names = [f"model.name={tiny_model}", f"model.weights={start}"]
    config, choices = config_from_data(path, names, preset="finetune")
    assert (config.optim.learning_rate, config.train.passes, config.train.steps) == (1e-5, 5, None)
    assert config.validation.fraction == 0.1
    assert {c.setting: c.value for c in choices}["validation.every_steps"] == 6


@pytest.mark.parametrize(
    ("text", "overrides", "preset", "message"),
    [
        (TOML, ["model.weights=none"], "finetune", "starts from trained weights: name them, like --set"),
        (TOML, [], "finetoon", "--preset finetoon: there is none .*: use one of finetune, palm-cifar, scratch"),
        (
            TOML,
            ["model.weights=none", "model.interpolate=0.5", "train.steps=1"],
            None,
            r"mixes with model\.weights",
        ),
        (TOML, ["model.lock=both", "train.steps=1"], None, r"model\.lock: .*got 'both'"),
        (TOML, ["train=5"], "finetune", "run.toml: train: "),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, text: str, overrides: list[str], preset: str | None, message: str
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path, overrides, preset=preset)
