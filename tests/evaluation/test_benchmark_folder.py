"""Folders in clip_benchmark's layout, written here as its exporter writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmark_shards import write_shards

from protoclip.contract.errors import ConfigError, DataError
from protoclip.encoders.model import ClipModel
from protoclip.evaluation.benchmark_folder import (
    WAY,
    evaluate_benchmark,
    is_benchmark_folder,
    read_benchmark_folder,
)
from protoclip.evaluation.features import TorchModel
from protoclip.sources import Pairs

NAMES = ("red", "blue", "teal", "red")


@pytest.fixture
def coloured(painted_pairs: Pairs) -> Pairs:
    return painted_pairs.select(np.array([texts[0] in NAMES for texts in painted_pairs.texts]))


@pytest.fixture
def classes(coloured: Pairs, tmp_path: Path) -> Path:
    folder = tmp_path / "wds" / "colours"
    write_shards(folder, coloured, [("cls", str(NAMES.index(texts[0]))) for texts in coloured.texts])
    (folder / "classnames.txt").write_text("".join(f"{name}\n" for name in NAMES))
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\na {c}.\n")
    return folder


def test_classification_takes_the_sets_own_names_and_templates(
    classes: Path, painted_clip: Callable[..., ClipModel]
) -> None:
    """`blue` and `teal` change places in the model's words: of nine pictures the three red ones are right. Two
    classes share a name, as in ImageNet: they stay two."""
    assert is_benchmark_folder(str(classes), "test")
    assert not is_benchmark_folder(str(classes), "train")
    data = read_benchmark_folder(classes)
    assert data.class_texts().texts[:3] == ("red", "a red.", "blue")
    found = evaluate_benchmark(TorchModel(painted_clip(blue="teal", teal="blue")), data)
    scores = found.subsets["colours test"].classification["class"]
    assert scores.num_classes == 4
    assert scores.zero_shot[WAY].value == pytest.approx(3 / 9)
    assert scores.mean_per_class[WAY].value == pytest.approx(1 / 3)
    assert 0 <= scores.calibration_error[WAY] <= 1
    right = evaluate_benchmark(TorchModel(painted_clip()), data)
    assert right.subsets["colours test"].classification["class"].zero_shot[WAY].value == 1.0
    assert right.subsets["colours test"].classification["class"].linear_probe is None


def test_retrieval_is_among_all_captions(
    coloured: Pairs, tmp_path: Path, painted_clip: Callable[..., ClipModel]
) -> None:
    folder = tmp_path / "captions"
    write_shards(folder, coloured, [("txt", f"{texts[0]}\nthe colour {texts[0]}\n") for texts in coloured.texts])
    (folder / "dataset_type.txt").write_text("retrieval\n")
    data = read_benchmark_folder(folder)
    assert data.pairs.texts[0] == ("red", "the colour red")
    subset = evaluate_benchmark(TorchModel(painted_clip()), data).subsets["captions test"]
    assert (subset.num_images, subset.num_texts) == (9, 6)
    assert subset.classification == {}
    # Either caption of a colour, which the model can't tell apart, is right.
    assert subset.retrieval.image_to_text[1].value == 1.0


def test_what_can_not_be_read_is_named(classes: Path) -> None:
    templates = classes / "zeroshot_classification_templates.txt"
    templates.write_text("a photo\n")
    with pytest.raises(DataError, match=r"templates\.txt: 'a photo' has no \{c\}"):
        read_benchmark_folder(classes)
    templates.write_text("{c}\n")
    # Passed over, an empty line would number the classes behind it anew.
    (classes / "classnames.txt").write_text("red\n\ngreen\nblue\n")
    with pytest.raises(DataError, match=r"classnames\.txt: line 2 is empty"):
        read_benchmark_folder(classes)
    (classes / "classnames.txt").write_text("red\n")
    with pytest.raises(DataError, match=r"class '1' is none of the 1 of .*classnames\.txt"):
        read_benchmark_folder(classes)
    (classes / "dataset_type.txt").write_text("multilabel")
    with pytest.raises(ConfigError, match=re.escape("multilabel: classification and retrieval are read")):
        read_benchmark_folder(classes)
    (classes / "test" / "nshards.txt").write_text("many")
    (classes / "dataset_type.txt").unlink()
    with pytest.raises(DataError, match=r"nshards\.txt: 'many' is no number"):
        read_benchmark_folder(classes)
