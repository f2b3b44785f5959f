"""Every kind of text through a real Triton: a vector of unit norm, or one clear line, and it lives on."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip import Client
from protoclip.client import Refused
from protoclip.client.connection import connect

pytestmark = pytest.mark.timeout(60)
TEXT = "tiny_012345_text"


def check_line(reason: str) -> None:
    assert "\n" not in reason
    assert 10 < len(reason) < 300


GOOD_TEXTS = {
    "long": 2000 * "word ",
    "one long word": 10_000 * "x",
    "Chinese": "一只红色的鞋子",
    "Arabic": "حذاء أحمر",
    "emoji": "👩🏽‍🚀🏳️‍🌈",
    "control characters": "a\x07b\x1bc",
    "combining": "Z̸͎̺̽a̴͖͝l̷̰̓g̶̳̈́o",
    "special token": "<|endoftext|>",
    "entities": 500 * "&amp;amp;",
}
BAD_TEXTS = {
    "empty": (b"", "the text is blank"),
    "blank": (" \t\n\u3000".encode(), "the text is blank"),
    "NUL": (b"a\0b", "a NUL character at position 1"),
    "no UTF-8": (b"caf\xe9", "UTF-8"),
    "an endless number for a character": (b"&#" + 5000 * b"1" + b";", "HTML entities can't be resolved"),
    "half a surrogate pair": ("a\ud800".encode("utf-8", "surrogatepass"), "UTF-8|surrogate"),
}


def test_texts_have_vectors_of_their_own_and_bad_ones_one_line(client: Client, url: str) -> None:
    vectors = client.embed_texts(list(GOOD_TEXTS.values()))
    alone = np.stack([client.embed_texts(text) for text in GOOD_TEXTS.values()])
    np.testing.assert_allclose(vectors, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    bad = [
        data.decode("utf-8", "surrogatepass") if name != "no UTF-8" else 3 for name, (data, _) in BAD_TEXTS.items()
    ]
    answer = client.embed_texts([*bad, *GOOD_TEXTS.values()], errors="return")  # type: ignore[list-item]
    assert [error.position for error in answer.errors] == list(range(len(bad)))
    np.testing.assert_allclose(answer.vectors[len(bad) :], vectors, atol=1e-6)


def test_bad_texts_are_refused_by_the_server_too(client: Client, url: str) -> None:
    transport = connect(url)
    good = [text.encode() for text in GOOD_TEXTS.values()]
    answer = transport.infer(TEXT, "text", [data for data, _ in BAD_TEXTS.values()] + good, 30)
    np.testing.assert_allclose(
        answer.embeddings[len(BAD_TEXTS) :], client.embed_texts(list(GOOD_TEXTS.values())), atol=1e-6
    )
    assert answer.errors[len(BAD_TEXTS) :] == len(good) * ("",)
    for data, reason in BAD_TEXTS.values():
        with pytest.raises(Refused, match=reason) as refused:
            transport.infer(TEXT, "text", [data], 30)
        check_line(refused.value.reason)
    transport.close()
