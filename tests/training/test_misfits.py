"""Settings that are good by themselves and do not fit the data, the model or the machine: one line each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from protoclip.config.load import build_config
from protoclip.config.settings import assign
from protoclip.contract.errors import ProtoclipError
from protoclip.training.train import train


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the rows below name, in the working directory."""
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", np.ones((5, 4), dtype=np.float32))
    np.save("flat.npy", np.ones(72, dtype=np.float32))
    np.save("nan.npy", np.full((72, 4), np.nan, dtype=np.float32))
    np.save("ragged.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save("good.npy", np.random.default_rng(0).standard_normal((72, 4)).astype(np.float32))
    table = pa.table({"kind": ["red disc"], "feature": [[1.0, 2.0]]})
    parquet.write_table(table, "one.parquet")
    parquet.write_table(table.drop_columns("feature"), "none.parquet")
    Path("pairs.txt").write_text("image,text")
    Path("empty.csv").touch()
    Path("header.csv").write_text("image,texts,kind\n")
    Path("torn.parquet").write_bytes(b"PAR1")
    Path("torn.jsonl").write_text('{"image": "a.png", ')
    Path("empty").mkdir()
    Image.new("RGB", (24, 24)).save("a.png")
    entity = f"&#{'1' * 5000};"
    for number in range(12):
        Image.new("RGB", (24, 24)).save(f"{number}.png")
    Path("digits.csv").write_text("image,texts,kind\n" + "".join(f"{i}.png,{entity} {i},{i}\n" for i in range(12)))
    return tmp_path


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "no such data": ({"data.path": ["gone.csv"]}, r"data\.path: gone\.csv: no such file or folder"),
    "an empty folder": ({"data.path": ["empty"]}, r"data\.path: empty: holds no"),
    "another kind of file": ({"data.path": ["pairs.txt"]}, r"data\.path: pairs\.txt: unknown kind of file"),
    "an empty file": ({"data.path": ["empty.csv"]}, r"empty\.csv: is empty"),
    "a header alone": ({"data.path": ["header.csv"]}, r"header\.csv|no pairs|0 pairs|no row"),
    "a torn Parquet file": ({"data.path": ["torn.parquet"]}, r"torn\.parquet: can't be read as parquet"),
    "a torn line": ({"data.path": ["torn.jsonl"]}, r"torn\.jsonl: line 1: no JSON"),
    "an endless number for a character": (
        {"data.path": ["digits.csv"]},
        r"data\.text_columns: a text of row 0 .*HTML entities",
    ),
    "no image column": ({"data.image_column": "photo"}, r"column 'photo' isn't there: it has image, texts"),
    "no text column": ({"data.text_columns": ["words"]}, r"column 'words' isn't there"),
    "no group column": ({"data.group_column": "shape"}, r"column 'shape' isn't there"),
    "no split column": ({"data.split_column": "part"}, r"column 'part' isn't there"),
    "no such split": (
        {"data.split_column": "colour", "data.train_split": "mauve"},
        r"no row has colour = 'mauve': the column holds blue, green, red, yellow",
    ),
    "no such split to validate on": (
        {"data.split_column": "colour", "data.train_split": "red", "validation.split": "mauve"},
        r"no row has colour = 'mauve'",
    ),
    "a split without a column": ({"validation.split": "val"}, r"validation\.split='val' .*data\.split_column"),
    "all pairs held out": ({"validation.fraction": 0.999}, r"validation\.fraction=0\.999 leaves nothing"),
    "a batch larger than the data": ({"train.batch_size": 73}, r"train\.batch_size=73 is more than .*\(72\)"),
    "a batch larger than the episode": ({"episode.size": 11}, r"train\.batch_size=12 is more than .*\(11\)"),
    "a group too common": ({"data.group_column": "colour"}, r"data\.group_column: .*lower train\.batch_size"),
    "LiT from the first step": (
        {"episode.lit_episodes": 4},
        r"episode\.lit_episodes=4 leaves no episode .* has 4",
    ),
    "more prototypes than pairs": ({"clustering.num_prototypes": 73}, r"clustering\.num_prototypes=73 needs"),
    "no such teacher": ({"teacher.path": "gone.npy"}, r"teacher\.path: gone\.npy: no such file"),
    "a teacher that is a folder": ({"teacher.path": "empty"}, r"teacher\.path: empty: no such file"),
    "a teacher of too few rows": (
        {"teacher.path": "few.npy"},
        r"few\.npy: shape \(5, 4\) does not fit .* 72 rows",
    ),
    "a flat teacher": ({"teacher.path": "flat.npy"}, r"flat\.npy: shape \(72,\) does not fit"),
    "a teacher of NaN": ({"teacher.path": "nan.npy"}, r"nan\.npy: holds NaN or infinity"),
    "a pickled teacher": ({"teacher.path": "ragged.npy"}, r"ragged\.npy: can't be read"),
    "a teacher without a key": ({"teacher.path": "one.parquet"}, r"teacher\.key_column is needed"),
    "a teacher's key that isn't there": (
        {"teacher.path": "one.parquet", "teacher.key_column": "code"},
        r"one\.parquet: .*'?code'?",
    ),
    "a teacher without features": (
        {"teacher.path": "none.parquet", "teacher.key_column": "kind"},
        r"none\.parquet: .*feature",
    ),
    "a teacher that lacks a pair": (
        {"teacher.path": "one.parquet", "teacher.key_column": "kind"},
        r"one\.parquet: no feature for kind = ",
    ),
    "more clusters of the teacher than pairs": (
        {"teacher.path": "good.npy", "teacher.num_prototypes": 300},
        r"teacher\.num_prototypes=300 needs at least 300 pairs, but there are 72",
    ),
    "no such model": ({"model.name": "ViT-B-23"}, r"model 'ViT-B-23' is unknown.*ViT-B-32"),
    "no such weights": ({"model.weights": "gone.pt"}, r"weights gone\.pt: no such file"),
    "sigmoid without a bias": ({"loss.alignment": "sigmoid"}, r"loss\.alignment='sigmoid' needs"),
    "nothing to train in LiT": ({"model.lock": "text"}, r"model\.lock='text' leaves nothing"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_one_line(shapes_config: dict[str, Any], files: Path, name: str) -> None:
    changes, message = MISFITS[name]
    for setting, value in changes.items():
        assign(shapes_config, setting, value)
    with pytest.raises(ProtoclipError, match=message) as caught:
        train(build_config(shapes_config, "test"), files / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (files / "run").exists()


def test_a_gpu_that_is_not_there(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shapes_config["train"]["device"] = "cuda"
    with pytest.raises(
        ProtoclipError, match=re.escape("train.device='cuda': torch sees no GPU here: use cpu or auto")
    ):
        train(build_config(shapes_config, "test"), tmp_path / "run", quiet=True)
