"""Classes in a file: what was saved is what is opened, and nothing else is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from protoclip.client import ClassBank
from protoclip.contract.errors import ModelError, ProtoclipError


def _bank(count: int = 3) -> ClassBank:
    vectors = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = ("red, blue", "grün\u2028", '"{}"', *map(str, range(count)))[:count]
    return ClassBank(labels, ("{}", "a photo of {}"), vectors, "tiny_012345", "0123456789abcdef")


def test_a_bank_comes_back_as_it_was(tmp_path: Path) -> None:
    bank = _bank()
    bank.save(tmp_path / "a.classes")
    found = ClassBank.open(str(tmp_path / "a.classes"))
    assert (found.labels, found.templates) == (bank.labels, bank.templates)
    assert (found.model, found.fingerprint) == (bank.model, bank.fingerprint)
    np.testing.assert_array_equal(found.vectors, bank.vectors)
    _bank(2).save(tmp_path / "a.classes")
    assert len(ClassBank.open(tmp_path / "a.classes")) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.classes"]


def test_other_programs_read_it_as_safetensors(tmp_path: Path) -> None:
    _bank().save(tmp_path / "a.classes")
    with safe_open(tmp_path / "a.classes", framework="np") as file:
        assert file.get_tensor("vectors").shape == (3, 4)
        assert json.loads(file.metadata()["class_bank"])["labels"] == list(_bank().labels)


def _write(path: Path, vectors: NDArray[np.generic], **fields: object) -> None:
    record = {"schema_version": 1, "model": "m", "fingerprint": "0123", "labels": ["a", "b"], "templates": ["{}"]}
    save_file({"vectors": vectors}, path, {"class_bank": json.dumps({**record, **fields})})


EYE = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
    ("vectors", "fields", "message"),
    [
        (EYE[:1], {}, "damaged: 2 labels need as many vectors"),
        (EYE.astype(np.float64), {}, "damaged"),
        (2 * EYE, {}, "damaged"),
        (EYE * np.nan, {}, "damaged"),
        (EYE, {"labels": ["a", "a"]}, "damaged"),
        (EYE, {"labels": []}, "field 'labels': "),
        (EYE, {"schema_version": 2}, "field 'schema_version': "),
        (EYE, {"other": 1}, "field 'other': "),
    ],
)
def test_what_does_not_fit_is_refused(
    vectors: NDArray[np.generic], fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    _write(tmp_path / "a.classes", EYE)
    assert len(ClassBank.open(tmp_path / "a.classes")) == 2
    _write(tmp_path / "a.classes", vectors, **fields)
    with pytest.raises(ModelError, match=f"a.classes: {message}"):
        ClassBank.open(tmp_path / "a.classes")


def test_a_changed_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.classes"
    _bank().save(path)
    path.write_bytes(path.read_bytes().replace(b"red, blue", b"red, blur"))
    with pytest.raises(ModelError, match=r"a.classes: damaged: build the classes again"):
        ClassBank.open(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    for name, data in {"text": b"cat\ndog\n", "empty": b"", "cut": b"\x40\0\0\0\0\0\0\0{"}.items():
        (tmp_path / name).write_bytes(data)
    save_file({"vectors": EYE}, tmp_path / "weights")
    for name in ("text", "empty", "cut", "missing", "."):
        with pytest.raises(ModelError, match="can't be read as classes"):
            ClassBank.open(tmp_path / name)
    with pytest.raises(ModelError, match="holds no classes"):
        ClassBank.open(tmp_path / "weights")


@pytest.mark.parametrize(("kind", "num_bytes"), [("BF16", 2), ("F8_E4M3", 1)])
def test_types_that_numpy_has_not(kind: str, num_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"

    def save(**metadata: str) -> None:
        size = 4 * num_bytes
        header = {"__metadata__": metadata, "vectors": {"dtype": kind, "shape": [2, 2], "data_offsets": [0, size]}}
        data = json.dumps(header).encode()
        path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(size))

    save()
    with pytest.raises(ModelError, match=r"model.safetensors: holds no classes: name a file that `protoclip"):
        ClassBank.open(path)
    record = {"schema_version": 1, "model": "m", "fingerprint": "0123", "labels": ["a", "b"], "templates": ["{}"]}
    save(class_bank=json.dumps(record))
    with pytest.raises(ModelError, match=r"model.safetensors: damaged: 2 labels need as many vectors"):
        ClassBank.open(path)


def test_a_full_disk_is_told(full_disk: Callable[[int], AbstractContextManager[None]], tmp_path: Path) -> None:
    with full_disk(100), pytest.raises(ProtoclipError, match=r"a.classes: can't be written: File too large"):
        _bank().save(tmp_path / "a.classes")
    assert list(tmp_path.iterdir()) == []


def test_a_bank_can_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProtoclipError, match="is a folder"):
        _bank().save(tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
