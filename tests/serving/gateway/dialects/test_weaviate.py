"""Weaviate's dialect. The requests are those of its client for the module; its server itself is not run.

Source: modules/multi2vec-clip/clients of https://github.com/weaviate/weaviate: JSON without a Content-Type, an
empty list as null, a key at most as user information of the address.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from dialect_server import KEY
from picture_bytes import saved, smooth
from running_gateway import RunningGateway

from protoclip.client import Client

PNG = base64.b64encode(saved(smooth(40, 20))).decode()
OTHER = base64.b64encode(saved(smooth(20, 40))).decode()


def vectorize(
    served: RunningGateway, texts: list[str] | None, images: list[str] | None, key: str = KEY
) -> httpx2.Response:
    """As `Vectorize` of the module's client, with a key as Go's client takes it from `http://x:KEY@host`."""
    body = json.dumps({"texts": texts, "images": images})
    return httpx2.post(f"{served.url}/vectorize", content=body, auth=("x", key))


def test_texts_and_pictures_have_the_vectors_of_our_client(served: RunningGateway, ours: Client) -> None:
    answer = vectorize(served, ["a red shoe", "b"], [PNG, OTHER])
    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == {"textVectors", "imageVectors"}
    np.testing.assert_allclose(found["textVectors"], ours.embed_texts(["a red shoe", "b"]), atol=1e-6)
    pictures = [base64.b64decode(PNG), base64.b64decode(OTHER)]
    np.testing.assert_allclose(found["imageVectors"], ours.embed_images(pictures), atol=1e-6)


@pytest.mark.parametrize(("texts", "images"), [(["a"], None), (None, [PNG]), (["a"], []), (None, None), ([], [])])
def test_what_is_not_asked_for_is_an_empty_list(
    served: RunningGateway, texts: list[str] | None, images: list[str] | None
) -> None:
    found = vectorize(served, texts, images).json()
    assert len(found["textVectors"]) == len(texts or [])
    assert len(found["imageVectors"]) == len(images or [])


@pytest.mark.parametrize(
    ("texts", "images", "message"),
    [
        (["a"], [PNG, base64.b64encode(b"no picture").decode(), PNG], "images[1]: "),
        (["a"], [PNG, "%%"], "images[1]: a picture is no base64"),
        (["a"], ["https://example.org/cat.jpg"], "images[0]: a picture is an address"),
        (["a", "", " "], [PNG], "texts[1]: "),
        ([], [PNG, ""], "images[1]: a picture is empty"),
        (["a"] * 2049, [], "more than 2048 items"),
        ("a", [], "texts must be a list of strings"),
        ([], [3], "images must be a list of strings"),
    ],
)
def test_a_bad_item_refuses_the_request_in_weaviates_body(
    served: RunningGateway, texts: Any, images: Any, message: str
) -> None:
    answer = vectorize(served, texts, images)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith(message) or message in answer.json()["error"]


def test_too_large_no_json_and_a_wrong_key_are_refused_in_weaviates_body(served: RunningGateway) -> None:
    large = vectorize(served, ["a" * (2 * 1024 * 1024)], [])
    broken = httpx2.post(f"{served.url}/vectorize", content=b"{", auth=("x", KEY))
    stranger = vectorize(served, ["a"], [], key="y" * 16)
    assert [answer.status_code for answer in (large, broken, stranger)] == [413, 400, 401]
    assert all(set(answer.json()) == {"error"} for answer in (large, broken, stranger))


def test_meta_says_which_model_answers(served: RunningGateway) -> None:
    found = httpx2.get(f"{served.url}/meta", auth=("x", KEY)).json()
    assert (found["model"], found["embedding_dim"], found["verdict"]) == ("tiny_012345", 16, "passed")


def test_it_is_ready_when_the_model_answers(
    served: RunningGateway, serve: Callable[..., RunningGateway], flaky: Any
) -> None:
    for path in ("live", "ready"):
        answer = httpx2.get(f"{served.url}/.well-known/{path}", auth=("x", KEY))
        assert (answer.status_code, answer.content) == (204, b"")
    flaky.failures, flaky.pause_s = 2, 60.0
    restarting = serve(flaky)
    assert httpx2.get(f"{restarting.url}/.well-known/live", auth=("x", KEY)).status_code == 204
    assert httpx2.get(f"{restarting.url}/.well-known/ready", auth=("x", KEY)).status_code == 503


def test_a_restarting_server_is_said_to_be_away(serve: Callable[..., RunningGateway], flaky: Any) -> None:
    flaky.failures = 1
    served = serve(flaky)
    answer = vectorize(served, ["a"], [])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert set(answer.json()) == {"error"}
    assert vectorize(served, ["a"], []).status_code == 200


def test_a_client_that_goes_leaves_the_server_well(serve: Callable[..., RunningGateway], slow: Any) -> None:
    served = serve(slow)
    body = json.dumps({"texts": ["a"], "images": []})
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{served.url}/vectorize", content=body, auth=("x", KEY), timeout=0.5)
    slow.release.set()
    assert vectorize(served, ["a"], []).status_code == 200
