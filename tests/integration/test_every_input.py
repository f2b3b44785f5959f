"""Every kind of picture through a real Triton: the right vector, or one clear line, and it lives on.

A good picture stands beside the array that it shows: both must get the same vector. The encoder of the tests
takes pixels as they are, and all arrays have its size, so that the vector speaks of every region's colour.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from every_picture import BAD, GOOD, PATTERN, SIDE, file_of, uniform

from protoclip import Client
from protoclip.client import Embeddings, Refused
from protoclip.client.connection import connect
from protoclip.contract.errors import ItemError

pytestmark = pytest.mark.timeout(60)
IMAGE = "tiny_012345_image"


def check_line(reason: str) -> None:
    assert "\n" not in reason
    assert 10 < len(reason) < 300


@pytest.mark.parametrize("name", GOOD)
def test_a_good_picture_has_the_vector_of_what_it_shows(client: Client, name: str) -> None:
    data, shown, tolerance = GOOD[name]
    vectors = client.embed_images([data, shown])
    assert np.abs(vectors[0] - vectors[1]).max() < tolerance
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)


def test_the_vectors_tell_the_pictures_apart(client: Client) -> None:
    """Else the comparisons above would show nothing."""
    shown = [PATTERN, np.rot90(PATTERN), PATTERN[::-1], PATTERN[:, ::-1], 255 - PATTERN, uniform(0, 0, 255)]
    vectors = client.embed_images([np.ascontiguousarray(array) for array in shown])
    assert (vectors @ vectors.T - np.eye(len(shown))).max() < 0.95


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_has_one_line_and_the_server_lives_on(client: Client, url: str, name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(ItemError, match=reason) as caught:
        client.embed_images(data)
    check_line(str(caught.value))
    # As other clients would send it, unchecked.
    transport = connect(url)
    with pytest.raises(Refused, match=reason) as refused:
        transport.infer(IMAGE, "image", [data], 30)
    check_line(refused.value.reason)
    transport.close()
    assert client.embed_images(PATTERN).shape == (16,)


def test_bad_pictures_do_not_touch_their_neighbours(client: Client) -> None:
    good, bad = [data for data, _, _ in GOOD.values()], [data for data, _ in BAD.values()]
    mixed = [item for pair in zip(good, bad, strict=False) for item in pair] + good[len(bad) :]
    assert len(mixed) == len(good) + len(bad)
    answer: Embeddings = client.embed_images(mixed, errors="return")
    wrong = [position for position, data in enumerate(mixed) if data in bad]
    assert [error.position for error in answer.errors] == wrong
    for error in answer.errors:
        check_line(error.reason)
    assert np.isnan(answer.vectors[wrong]).all()
    vectors = np.delete(answer.vectors, wrong, axis=0)
    np.testing.assert_array_equal(vectors, client.embed_images(good))
    alone = np.stack([client.embed_images(data) for data in good])
    np.testing.assert_allclose(vectors, alone, atol=1e-6)


@pytest.mark.parametrize("name", GOOD)
def test_an_open_file_is_its_picture(client: Client, name: str) -> None:
    data = GOOD[name][0]
    np.testing.assert_array_equal(client.embed_images(io.BytesIO(data)), client.embed_images(data))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_open_file_has_one_line(client: Client, name: str) -> None:
    data, reason = BAD[name]
    if 0 < len(data) <= 32 << 20:
        with pytest.raises(ItemError, match=reason) as caught:
            client.embed_images(io.BytesIO(data))
        check_line(str(caught.value))


def test_what_is_no_picture_harms_no_other(client: Client) -> None:
    good = GOOD["rgb"][0]
    bad = ["https://a.example/b.png", "data:,a", "", io.BytesIO(), io.StringIO("a"), {"bytes": good}, None, [good]]
    answer = client.embed_images([good, *bad, io.BytesIO(good)], errors="return")  # type: ignore[list-item]
    assert [error.position for error in answer.errors] == list(range(1, len(bad) + 1))
    for error in answer.errors:
        check_line(error.reason)
    np.testing.assert_array_equal(answer.vectors[[0, -1]], np.stack([client.embed_images(good)] * 2))


def test_arrays(client: Client) -> None:
    zeros = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    bad = [
        np.full((8, 8, 3), np.nan),
        zeros.astype(np.float32),
        zeros[np.newaxis],
        zeros[0, 0],
        zeros[:0],
        "nowhere.png",
    ]
    answer = client.embed_images([*bad, zeros, zeros[:, :, 0]], errors="return")
    assert [error.position for error in answer.errors] == list(range(len(bad)))
    for error in answer.errors:
        check_line(error.reason)
    black = client.embed_images(file_of(uniform(0, 0, 0)))
    np.testing.assert_array_equal(answer.vectors[len(bad) :], np.stack([black, black]))
