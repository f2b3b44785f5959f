"""Which pairs the comparison runs on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.parity.samples import Samples, adversarial_files, adversarial_pixels, adversarial_texts, pick_samples
from protoclip.contract.errors import DataError
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.contract.text import TextSpec
from protoclip.sources import Pairs


def _png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1), (number // 256, number % 256, 0)).save(stream, "PNG")
    return stream.getvalue()


def _pairs(count: int, num_texts: int) -> Pairs:
    images = [_png(row) for row in range(count)]
    return Pairs(images, tuple((f"text {row % num_texts}", "another") for row in range(count)), {})


def test_no_text_or_picture_is_taken_twice() -> None:
    pairs = _pairs(100, num_texts=30)
    doubled = Pairs([pairs.images[row // 2] for row in range(100)], pairs.texts, {})
    samples = pick_samples(doubled, "test", count=20)
    assert len(set(samples.pictures)) == len(set(samples.texts)) == 20
    for picture, text in zip(samples.pictures, samples.texts, strict=True):
        rows = [row for row in range(100) if doubled.images[row] == picture]
        assert text in {doubled.texts[row][0] for row in rows}


def test_the_choice_is_always_the_same_and_from_all_over() -> None:
    pairs = _pairs(1000, num_texts=1000)
    samples = pick_samples(pairs, "test")
    assert samples == pick_samples(pairs, "test")
    assert len(samples.texts) == 256
    numbers = [int(text.split()[1]) for text in samples.texts]
    assert min(numbers) < 50
    assert max(numbers) > 950


def test_too_few_different_pairs_say_so() -> None:
    with pytest.raises(DataError, match=r"shop\.csv: 30 different pairs, the comparison needs 256"):
        pick_samples(_pairs(1000, num_texts=30), "shop.csv")


def test_what_cannot_be_used_is_left_out_by_name_and_the_rest_is_filled_up(tmp_path: Path) -> None:
    good, filler = _pairs(20, num_texts=20), _pairs(300, num_texts=300)
    images = [*good.images, tmp_path / "gone.png", b"no picture", _png(21)]
    pairs = Pairs(
        images, (*good.texts, ("gone",), ("broken",), ("a NUL \0 in it",)), {"kind": np.array(["k"] * 23)}
    )
    samples = pick_samples(pairs, "shop.csv", label_column="kind", filler=filler)
    assert samples.origin == "shop.csv (20 different pairs) and the bundled corpus (236)"
    assert (len(samples.texts), samples.labels) == (256, ())
    reasons = {skipped.name: skipped.reason for skipped in samples.left_out}
    assert sorted(reasons) == [str(tmp_path / "gone.png"), "row 21", "row 22"]
    assert "No such file" in reasons[str(tmp_path / "gone.png")]
    with pytest.raises(DataError, match=r"shop\.csv: not one pair can be used; the first: .*gone\.png: "):
        pick_samples(Pairs([tmp_path / "gone.png"], (("x",),), {}), "shop.csv", filler=filler)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(DataError, match="no pairs"):
        Samples((b"a",), ("a", "b"), "test")
    with pytest.raises(DataError, match="no pairs"):
        Samples((), (), "test")


def test_a_hostile_file_tells_how_colours_are_taken() -> None:
    different = []
    for file in adversarial_files():
        stored, managed = (
            load_pixels(file, PixelSpec(32, 32, color_management=way)).astype(int) for way in ("stored", "srgb")
        )
        different.append(int(np.abs(stored - managed).max()))
    assert [value for value in different if value] == [different[-1]]
    assert different[-1] > 40


def test_hostile_inputs_are_all_different() -> None:
    pictures = adversarial_pixels(PixelSpec(height=6, width=9))
    assert pictures.shape == (9, 6, 9, 3)
    assert len({picture.tobytes() for picture in pictures}) == 9
    assert pictures[0].max() == 0
    assert pictures[1].min() == 255
    texts = adversarial_texts(TextSpec(context_length=16))
    assert len(set(texts)) == len(texts)
    assert max(len(text.split()) for text in texts) > 16
    assert np.min([len(text) for text in texts]) == 1
