from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.data.table import load_pairs, training_pairs
from protoclip.distributed.devices import has_bf16
from protoclip.training.defaults import config_from_data
from protoclip.training.session import build_session


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    path.write_bytes(stream.getvalue())


def write_table(folder: Path, name: str, header: str, row: Callable[[int], str], count: int = 40) -> Path:
    for number in range(count):
        draw(folder / f"{number}.png", number)
    (folder / name).write_text("\n".join([header, *(row(number) for number in range(count))]) + "\n")
    return folder / name


def write_classes(folder: Path, sizes: dict[str, int]) -> Path:
    for name, count in sizes.items():
        for number in range(count):
            draw(folder / name / f"{number}.png", number)
    return folder


def chosen(path: Path, *overrides: str) -> RunConfig:
    return config_from_data(path, overrides)[0]


def session_fits(config: RunConfig) -> bool:
    session = build_session(config, lambda items, _: items)
    return session.data.plan.num_batches > 0 and session.clustering.num_prototypes <= session.data.plan.size


def test_a_csv_is_enough(tmp_path: Path) -> None:
    path = write_table(tmp_path, "pairs.csv", "file_name,Caption,price", lambda i: f"{i}.png,thing {i},{i}")
    config = chosen(path)
    assert config.data.path == (str(path),)
    assert (config.data.image_column, config.data.text_columns) == ("file_name", ("Caption",))
    assert config.data.group_column is None
    assert config.model.name == "protoclip-mini-48"
    assert config.train.batch_size == 4
    assert config.train.steps == 1000
    assert session_fits(config)


def test_settings_win(tmp_path: Path) -> None:
    path = write_table(tmp_path, "pairs.csv", "image,text,title", lambda i: f"{i}.png,thing,name {i}")
    config, choices = config_from_data(
        path, ["data.text_columns=title", "train.passes=3", "train.batch_size=10", "optim.learning_rate=0.1"]
    )
    assert config.data.text_columns == ("title",)
    assert (config.train.steps, config.train.passes) == (None, 3)
    assert config.train.batch_size == 10
    assert config.optim.learning_rate == 0.1
    assert {c.setting: c.reason for c in choices}["train.batch_size"] == "--set"


def test_a_file_fills_in_what_the_data_leaves_open_and_yields_to_set(tmp_path: Path) -> None:
    path = write_table(tmp_path, "pairs.csv", "image,text,title", lambda i: f"{i}.png,thing,name {i}")
    file = tmp_path / "shop.toml"
    file.write_text(
        '[data]\npath = "elsewhere.csv"\ntext_columns = ["title"]\n[teacher]\nkey_column = "title"\n'
        "[model.head]\nhidden_dim = 8\n[train]\nbatch_size = 10\nsteps = 20\n[optim]\nlearning_rate = 0.1\n"
    )
    config, choices = config_from_data(path, ["train.batch_size=5", "train.seed=3"], file=file)
    origins = {choice.setting: choice.reason for choice in choices}
    values = {choice.setting: choice.value for choice in choices}
    assert config.data.path == (str(path),)
    assert origins["data.path"] == f"--data, in place of that in {file}"
    for setting in ("data.text_columns", "train.steps", "optim.learning_rate", "model.head.hidden_dim"):
        assert origins[setting] == str(file), setting
    assert origins["teacher.key_column"] == str(file)
    assert (origins["train.batch_size"], origins["train.seed"]) == ("--set", "--set")
    assert (config.data.text_columns, config.train.batch_size, config.train.seed) == (("title",), 5, 3)
    assert (config.train.steps, config.optim.learning_rate, config.teacher.key_column) == (20, 0.1, "title")
    assert (config.model.head.hidden_dim, config.model.head.projection_dim) == (8, 64)
    assert (values["optim.warmup_steps"], origins["optim.warmup_steps"]) == (2, "a tenth of the steps")
    assert config.model.name == "protoclip-mini-48"
    assert len(origins) == len(choices)


def test_a_saved_configuration_leaves_nothing_open(tmp_path: Path) -> None:
    """In JSON a setting can be `null`, which is as much a choice as any other value."""
    path = write_table(tmp_path, "pairs.csv", "image,text,sku", lambda i: f"{i}.png,thing {i},{i // 4}")
    assert chosen(path).data.group_column == "sku"
    first = chosen(path, "data.group_column=none", "train.steps=5", "train.batch_size=4")
    (tmp_path / "config.json").write_text(first.model_dump_json())
    again, choices = config_from_data(path, file=tmp_path / "config.json")
    assert again == first
    assert {choice.reason for choice in choices if choice.setting != "data.path"} == {
        str(tmp_path / "config.json")
    }


def test_every_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    weights = {"model.name": "RN50", "model.weights": "w.pt"}
    path = write_table(tmp_path, "pairs.csv", "image,text", lambda i: f"{i}.png,thing {i}")
    (tmp_path / "x.toml").write_text("[optim]\nwarmup_steps = 7\n")
    overrides = [f"{name}={value}" for name, value in weights.items()]
    config, choices = config_from_data(path, overrides, preset="finetune", file=tmp_path / "x.toml")
    origins = {choice.setting: choice.reason for choice in choices}
    assert config.optim.warmup_steps == 7
    assert origins["optim.warmup_steps"] == str(tmp_path / "x.toml")
    assert origins["optim.learning_rate"] == origins["train.passes"] == "--preset finetune"
    assert origins["model.weights"] == "--set"
    assert origins["data.image_column"] == "by its name"
    (tmp_path / "x.toml").write_text("[trian]\nx = 7\n")
    with pytest.raises(ConfigError, match=r"x\.toml with --data .*unknown setting trian\.x"):
        config_from_data(path, file=tmp_path / "x.toml")
    for override in ("data.path=other.csv", 'data={path="other.csv"}'):
        with pytest.raises(ConfigError, match=r"data\.path: give the data by --data or by --set data\.path"):
            config_from_data(path, [override])


@pytest.mark.parametrize(
    ("row", "column", "size"),
    [
        (lambda i: f"{i}.png,thing {i % 20}", "text", 4),
        (lambda i: f"{i}.png,thing {i % 3}", "text", 2),
    ],
)
def test_what_repeats_is_kept_apart(tmp_path: Path, row: Callable[[int], str], column: str, size: int) -> None:
    config = chosen(write_table(tmp_path, "pairs.csv", "image,text", row))
    assert config.data.group_column == column
    assert config.train.batch_size == size
    assert session_fits(config)
    plan = build_session(config, lambda items, _: items).data.plan
    assert plan.groups is not None
    for positions in plan.batches(plan.episode(0)):
        assert len(np.unique(plan.groups[plan.episode(0).indices[positions]])) == size


def test_rows_of_one_picture_are_its_texts(tmp_path: Path) -> None:
    path = write_table(tmp_path, "pairs.csv", "image,text", lambda i: f"{i // 2}.png,thing {i}")
    config = chosen(path)
    assert config.data.group_column is None
    texts = load_pairs(config.data).texts
    assert texts == tuple((f"thing {2 * n}", f"thing {2 * n + 1}") for n in range(len(texts)))
    assert session_fits(config)


def test_a_group_column_goes_by_its_name(tmp_path: Path) -> None:
    path = write_table(tmp_path, "pairs.csv", "image,text,SKU", lambda i: f"{i}.png,thing {i},{i // 4}")
    assert chosen(path).data.group_column == "SKU"
    assert chosen(path, "data.group_column=none").data.group_column is None


def test_class_folders(tmp_path: Path) -> None:
    folder = write_classes(tmp_path, {"sea_lion": 6, "red-fox": 6, "owl": 6})
    config = chosen(folder)
    pairs = load_pairs(config.data)
    assert sorted({texts[0] for texts in pairs.texts}) == ["owl", "red fox", "sea lion"]
    assert sorted(set(pairs.column("class"))) == ["owl", "red-fox", "sea_lion"]
    assert config.data.group_column == "class"
    assert config.evaluation.class_columns == ("class",)
    assert config.train.batch_size == 2
    assert len(pairs.read_image(17)) > 100
    assert session_fits(config)


def test_a_batch_holds_no_more_than_the_classes_allow(tmp_path: Path) -> None:
    folder = write_classes(tmp_path, {"a": 25, "b": 25, "c": 25})
    config, choices = config_from_data(folder)
    assert config.train.batch_size == 3
    reason = {c.setting: c.reason for c in choices}["train.batch_size"]
    assert reason == "a batch holds each class at most once, and 'a' has 25 of 75 pairs"
    assert session_fits(config)


def test_class_folders_in_split_folders(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 8, "dog": 8})
    write_classes(tmp_path / "val", {"cat": 2, "dog": 2})
    config = chosen(tmp_path)
    assert (config.data.split_column, config.data.train_split) == ("split", "train")
    pairs = load_pairs(config.data)
    assert (len(pairs), len(training_pairs(pairs, config.data))) == (20, 16)


def test_a_folder_with_captions(tmp_path: Path) -> None:
    write_table(tmp_path, "metadata.csv", "file_name,text", lambda i: f"{i}.png,thing {i}")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    config = chosen(tmp_path)
    assert config.data.path == (str(tmp_path),)
    assert len(load_pairs(config.data)) == 40
    (tmp_path / "captions.csv").write_text("image,text\n")
    with pytest.raises(ConfigError, match=r"holds captions\.csv and metadata\.csv: name the one"):
        chosen(tmp_path)


@pytest.mark.parametrize(
    ("header", "overrides", "message"),
    [
        ("a,text", [], r"data\.image_column: none of a, text is called like.*--set data\.image_column=a"),
        ("image,path,text", [], r"data\.image_column: image and path could all be"),
        ("image,text,title", [], r"text_columns: text and title could.*--set 'data\.text_columns=\[\"text\"\]'"),
        ("image,words", [], r"data\.text_columns: none of image, words"),
        ("image,text", ["data.image_column=gone"], "column 'gone' isn't there"),
        ("image,text", ["data.path=x.csv"], "not by both"),
        ("image,text", ["model.weights=w.safetensors"], r"model\.weights: say whose they are"),
        ("image,text", ["train.batch_size=many"], r"train\.batch_size: .*got 'many'"),
    ],
)
def test_what_can_not_be_told_is_named(tmp_path: Path, header: str, overrides: list[str], message: str) -> None:
    path = tmp_path / "pairs.csv"
    values = ",".join("x{0}" for _ in header.split(","))
    path.write_text(header + "\n" + "".join(values.format(i) + "\n" for i in range(9)))
    with pytest.raises(ProtoclipError, match=message):
        chosen(path, *overrides)


def test_one_class_has_no_batches(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'big' has 9 of 11 pairs.*--set data\.group_column=none"):
        chosen(write_classes(tmp_path, {"big": 9, "small": 2}))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file or folder"):
        chosen(tmp_path / "gone")
    with pytest.raises(DataError, match=r"holds no \.csv.* and no class folders with pictures"):
        chosen(tmp_path)


def test_validation_takes_groups_where_there_are_enough(tmp_path: Path) -> None:
    path = write_table(tmp_path, "pairs.csv", "image,text", lambda i: f"{i}.png,thing {i // 2}", count=120)
    config = chosen(path)
    assert config.validation.fraction == 0.1
    assert config.validation.every_steps * 10 == config.train.steps
    assert session_fits(config)
    assert chosen(path, "validation.fraction=0").validation.fraction == 0


def test_validation_on_a_split_folder(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 8, "dog": 8})
    write_classes(tmp_path / "val", {"cat": 2, "dog": 2})
    config = chosen(tmp_path)
    assert config.validation.split == "val"
    assert session_fits(config)


def test_a_broken_picture_does_not_end_a_run_at_the_edge(tmp_path: Path) -> None:
    """As many classes in a batch as there are: with one picture less there are too few batches by one."""
    folder = write_classes(tmp_path, {"a": 25, "b": 25, "c": 25})
    (folder / "c" / "3.png").write_bytes(b"not a picture")
    config = chosen(folder)
    assert config.train.batch_size == 3
    assert session_fits(config)


def test_a_gpu_that_computes_in_bf16_is_used_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_table(tmp_path, "pairs.csv", "image,text", lambda number: f"{number}.png,text {number}")
    assert config_from_data(table)[0].train.precision == ("bf16" if has_bf16() else "fp32")
    monkeypatch.setattr("protoclip.training.defaults.has_bf16", lambda: True)
    chosen, choices = config_from_data(table)
    assert chosen.train.precision == "bf16"
    assert "train.precision" in {choice.setting for choice in choices}
    for override in ("train.precision=fp32", "train.device=cpu"):
        assert config_from_data(table, [override])[0].train.precision == "fp32"
