from __future__ import annotations

from pathlib import Path

import pytest

from protoclip.config.load import load_config
from protoclip.config.schema import RunConfig
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


def test_addresses_in_the_file_are_no_paths(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL.replace('"pairs.csv"', '["s3://shop/pairs.csv", "b.csv"]')))
    assert config.data.path == ("s3://shop/pairs.csv", str(tmp_path / "b.csv"))


def test_published_weights_in_the_file_are_no_paths(tmp_path: Path) -> None:
    for given, taken in {
        "laion2b_s34b_b79k": "laion2b_s34b_b79k",
        "hf-hub:timm/ViT-B-16-SigLIP": "hf-hub:timm/ViT-B-16-SigLIP",
        "w.safetensors": str(tmp_path / "w.safetensors"),
        "./openai": str(tmp_path / "openai"),
    }.items():
        assert load_config(write(tmp_path, f'{MINIMAL}[model]\nweights = "{given}"\n')).model.weights == taken


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
    (tables,) = map(Path, config.data.path)
    assert len(list(tables.parent.glob(tables.name))) == 7
    assert config.teacher.path is not None
    assert Path(config.teacher.path).is_file()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (MINIMAL + "[trian]\nx = 1\n", [], r"run\.toml: unknown setting trian\.x: `protoclip train --settings`"),
        (
            '[data]\npath = "pairs.csv"\n[trian]\nsteps = 1\n',
            [],
            r"unknown setting trian\.steps: did you mean train\.s",
        ),
        (
            MINIMAL + "[optim]\nlearningrate = 1\n",
            [],
            r"toml: unknown .*rate: did you mean optim\.learning_rate\?",
        ),
        (MINIMAL + "[modle.head]\n", [], r"run\.toml: unknown setting modle\.head: did you mean model\.head"),
        (MINIMAL, ["train.batchsize=3"], r"--set train\.batchsize=3: unknown .*did you mean train\.batch_size\?"),
        (MINIMAL, ["trian.steps=none"], r"unknown setting trian\.steps: did you mean train\.steps\?"),
        (MINIMAL, ["train.learning_rate=1"], r"did you mean optim\.learning_rate\?"),
        (MINIMAL, ["steps=5"], r"unknown setting steps: did you mean train\.steps\?"),
        (MINIMAL, ["model.head.hidden=5"], r"did you mean model\.head\.hidden_dim\?"),
        (MINIMAL, ["train.batch_size=many"], r"train\.batch_size: .*got 'many'"),
        (MINIMAL, ["train.steps=-1"], r"train\.steps: .*got -1"),
        (MINIMAL, ["train.passes=2"], r"train: .*exactly one of train\.steps and train\.passes"),
        (MINIMAL, ["batch_size"], r"--set 'batch_size': write it as section\.field=value"),
        (MINIMAL, ["data.path.x=1"], r"--set data\.path\.x: path is not a section"),
        (MINIMAL, ["train.num_workers=-1"], r"train\.num_workers: .*got -1"),
        (MINIMAL, ["train.num_workers=two"], r"train\.num_workers: .*got 'two'"),
        (MINIMAL, ["train.device=tpu"], r"train\.device: .*'cpu'.*got 'tpu'"),
        (MINIMAL, ["train.precision=fp16"], r"train\.precision: .*'bf16'.*got 'fp16'"),
        (MINIMAL, ["train.batch_size=1"], r"train\.batch_size: .*got 1"),
        (MINIMAL, ["train.batch_size=2.5"], r"train\.batch_size: .*got 2\.5"),
        (MINIMAL, ["train.seed=-1"], r"train\.seed: .*got -1"),
        (MINIMAL, ["train=fast"], r"train: .*got 'fast'"),
        (MINIMAL, ["optim.learning_rate=nan"], r"optim\.learning_rate: .*got nan"),
        (MINIMAL, ["optim.learning_rate=inf"], r"optim\.learning_rate: .*got inf"),
        (MINIMAL, ["optim.betas=[0.9]"], r"optim\.betas"),
        (MINIMAL, ["optim.betas=[0.9, 1.5]"], r"optim\.betas"),
        (MINIMAL, ["augmentation.crop_scale=[0.9, 0.1]"], r"augmentation\.crop_scale"),
        (MINIMAL, ["augmentation.crop_scale=[-1, 1]"], r"augmentation\.crop_scale"),
        (MINIMAL, ["augmentation.blur_sigma=[0, 2]"], r"augmentation\.blur_sigma"),
        (MINIMAL, ["augmentation.flip=2"], r"augmentation\.flip: .*got 2"),
        (MINIMAL, ["clustering.num_prototypes=1"], r"clustering\.num_prototypes: .*got 1"),
        (MINIMAL, ["data.path=[]"], r"data\.path"),
        (MINIMAL, ["data.path=7"], r"data\.path: .*got 7"),
        (MINIMAL, ["data.text_columns=[]"], r"data\.text_columns"),
        (MINIMAL, ["model.head.num_layers=0"], r"model\.head\.num_layers: .*got 0"),
        (MINIMAL, ["validation.fraction=1"], r"validation\.fraction: .*got 1"),
        (MINIMAL, ["validation.fraction=0.1", "validation.split=val"], r"validation: .*not both"),
        (MINIMAL, ["model.interpolate=0.5"], r"model: .*mixes with model\.weights"),
        (MINIMAL, ["evaluation.cells=3"], r"evaluation\.cells: .*got 3"),
        ('[data]\npath = "pairs.csv"\n', [], r"run\.toml: train: is missing"),
        ("[train]\nsteps = 10\n", [], r"run\.toml: data: is missing: set it in"),
        ("[data\n", [], r"run\.toml: not valid TOML"),
        ("", [], r"run\.toml: data: is missing"),
        ("data = 3\n[train]\nsteps = 1\n", [], r"run\.toml: data: .*got 3"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.toml", None, "gone.toml: can't be read: No such file"),
        ("", None, "can't be read: Is a directory"),
        ("noise.toml", b"\xff\xfe\x00", "noise.toml: not valid TOML"),
        ("torn.json", b'{"data": ', "torn.json: not valid JSON"),
        ("empty.json", b"", "empty.json: not valid JSON"),
        ("list.json", b"[1, 2]", "list.json: holds no sections but a list"),
    ],
)
def test_a_file_that_holds_no_settings_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(tmp_path / name)
    assert "\n" not in str(caught.value)
