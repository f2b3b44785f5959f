from __future__ import annotations

from pathlib import Path

import pytest

from protoclip.config import RunConfig, load_config
from protoclip.contract.errors import ConfigError
from protoclip.demo.run import demo_config

MINIMAL = '[data]\npath = "pairs.csv"\n[train]\nsteps = 10\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL + '[teacher]\npath = "t.npy"\n'))
    assert config.data.path == (str(tmp_path / "pairs.csv"),)
    assert config.teacher.path == str(tmp_path / "t.npy")


def test_overrides_win_and_are_typed(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, MINIMAL),
        ["train.batch_size=64", "data.path=other.csv", "augmentation.crop_scale=[0.9, 1.0]", "model.name=RN50"],
    )
    assert config.train.batch_size == 64
    assert config.data.path == ("other.csv",)
    assert config.augmentation.crop_scale == (0.9, 1.0)
    assert config.model.name == "RN50"


def test_none_takes_a_setting_back(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + '[teacher]\npath = "t.npy"\n')
    assert load_config(path, ["teacher.path=none"]).teacher.path is None


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_the_demo_configuration_is_valid() -> None:
    config = demo_config(steps=7)
    assert config.train.steps == 7
    assert Path(config.data.path[0]).is_dir()
    assert config.teacher.path is not None
    assert Path(config.teacher.path).is_file()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (MINIMAL + "[trian]\nx = 1\n", [], r"run\.toml: trian: no such setting"),
        (MINIMAL, ["train.batchsize=3"], r"train\.batchsize: no such setting"),
        (MINIMAL, ["train.batch_size=many"], r"train\.batch_size: .*got 'many'"),
        (MINIMAL, ["train.steps=-1"], r"train\.steps: .*got -1"),
        (MINIMAL, ["train.passes=2"], r"train: .*exactly one of train\.steps and train\.passes"),
        (MINIMAL, ["batch_size"], r"--set 'batch_size': write it as section\.field=value"),
        (MINIMAL, ["data.path.x=1"], r"--set data\.path\.x: path is not a section"),
        ("[train]\nsteps = 10\n", [], r"settings|data: is missing: set it in"),
        ("[data\n", [], r"run\.toml: not valid TOML"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text), overrides)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: can't be read: No such file"):
        load_config(tmp_path / "gone.toml")
