"""Immich's dialect. There is no client package: the requests are those of Immich's own server.

Source: server/src/repositories/machine-learning.repository.ts of https://github.com/immich-app/immich: a form with
`entries`, and either the file `image`, named `blob` and without a type, or the field `text`; no key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from dialect_server import KEY
from other_service import OtherService
from picture_bytes import saved, smooth
from running_gateway import RunningGateway

from protoclip.client import Client
from serving.gateway.dialects.immich.model_names import DIMENSIONS, check_name
from serving.gateway.errors import Refused

PNG = saved(smooth(40, 20))
FACES = {
    "facial-recognition": {
        "detection": {"modelName": "buffalo_l", "options": {"minScore": 0.7}},
        "recognition": {"modelName": "buffalo_l"},
    }
}


def visual(model: str = "tiny") -> dict[str, Any]:
    return {"clip": {"visual": {"modelName": model}}}


def textual(model: str = "tiny") -> dict[str, Any]:
    return {"clip": {"textual": {"modelName": model, "options": {"language": "de"}}}}


def predict(
    served: RunningGateway,
    entries: Any,
    *,
    image: bytes | None = None,
    text: str | None = None,
    key: str | None = KEY,
) -> httpx2.Response:
    """As `predict` of Immich's repository; the key is what a proxy between would add."""
    fields: dict[str, Any] = {"entries": (None, entries if isinstance(entries, str) else json.dumps(entries))}
    if image is not None:
        fields["image"] = ("blob", image, "application/octet-stream")
    if text is not None:
        fields["text"] = (None, text)
    headers = {} if key is None else {"X-API-Key": key}
    return httpx2.post(f"{served.url}/predict", files=fields, headers=headers)


def test_a_picture_has_its_vector_as_json_in_a_string_and_its_size(served: RunningGateway, ours: Client) -> None:
    answer = predict(served, visual(), image=PNG)
    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == {"clip", "imageHeight", "imageWidth"}
    assert (found["imageHeight"], found["imageWidth"]) == (20, 40)
    np.testing.assert_allclose(json.loads(found["clip"]), ours.embed_images(PNG), atol=1e-6)


def test_a_pictures_size_is_that_of_its_file(served: RunningGateway) -> None:
    exif = smooth(40, 20).getexif()
    exif[0x0112] = 6
    lying = saved(smooth(40, 20), format="JPEG", exif=exif.tobytes())
    found = predict(served, visual(), image=lying).json()
    assert (found["imageHeight"], found["imageWidth"]) == (20, 40)


def test_a_text_has_its_vector_alone(served: RunningGateway, ours: Client) -> None:
    found = predict(served, textual(), text="ein roter Schuh").json()
    assert set(found) == {"clip"}
    np.testing.assert_allclose(json.loads(found["clip"]), ours.embed_texts("ein roter Schuh"), atol=1e-6)


def test_ping(served: RunningGateway) -> None:
    answer = httpx2.get(f"{served.url}/ping")
    assert (answer.status_code, answer.text) == (200, "pong")


@pytest.mark.parametrize(
    ("entries", "status", "message"),
    [
        ("{", 422, "entries: "),
        ("[]", 422, "entries must be a JSON object"),
        ({}, 422, "entries must be a JSON object"),
        ({"clip": {}}, 422, "one of textual and visual"),
        ({"clip": {"visual": {}}}, 422, "must have a modelName"),
        ({"clip": {"visual": {"modelName": "tiny"}, "textual": {"modelName": "tiny"}}}, 422, "one of textual"),
        (textual(), 400, "no text"),
        (visual("ViT-B-32__openai"), 404, "stands for 512 numbers in Immich, and tiny gives 16"),
        (visual("ViT-B-99__nobody"), 404, "is unknown here"),
        (FACES, 501, "facial-recognition: only smart search"),
        ({**visual(), "ocr": {}}, 501, "ocr: only smart search"),
    ],
)
def test_wrong_wishes_are_refused_in_immichs_body(
    served: RunningGateway, entries: Any, status: int, message: str
) -> None:
    answer = predict(served, entries, image=PNG)
    assert answer.status_code == status
    assert set(answer.json()) == {"detail"}
    assert message in answer.json()["detail"]


def test_bad_empty_and_large_inputs_are_refused(served: RunningGateway) -> None:
    answers = [
        predict(served, visual(), image=b"no picture"),
        predict(served, visual(), image=b""),
        predict(served, visual(), text="a text"),
        predict(served, textual(), text=" "),
        predict(served, visual(), image=b"x" * (2 * 1024 * 1024)),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 413]
    assert all(set(answer.json()) == {"detail"} for answer in answers)
    no_entries = httpx2.post(f"{served.url}/predict", files={"text": (None, "a")}, headers={"X-API-Key": KEY})
    assert (no_entries.status_code, no_entries.json()) == (422, {"detail": "the form has no field entries"})


def test_a_wrong_key_has_immichs_body(served: RunningGateway) -> None:
    answer = predict(served, visual(), image=PNG, key="y" * 16)
    assert answer.status_code == 401
    assert set(answer.json()) == {"detail"}


def test_a_restarting_server_is_said_to_be_away(serve: Callable[..., RunningGateway], flaky: Any) -> None:
    flaky.failures = 1
    served = serve(flaky)
    answer = predict(served, textual(), text="a")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert predict(served, textual(), text="a").status_code == 200


def test_a_client_that_goes_leaves_the_server_well(serve: Callable[..., RunningGateway], slow: Any) -> None:
    served = serve(slow)
    fields = {"entries": (None, json.dumps(textual())), "text": (None, "a")}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{served.url}/predict", files=fields, headers={"X-API-Key": KEY}, timeout=0.5)
    slow.release.set()
    assert predict(served, textual(), text="a").status_code == 200


def test_other_tasks_go_to_the_service_that_is_named(
    serve: Callable[..., RunningGateway], other: OtherService, ours: Client
) -> None:
    served = serve(forward={"immich": other.url})
    faces = [{"boundingBox": {"x1": 0, "y1": 0, "x2": 4, "y2": 4}, "embedding": "[0.5]", "score": 0.9}]
    other.answer = {"facial-recognition": faces, "imageHeight": 20, "imageWidth": 40}
    assert predict(served, FACES, image=PNG).json() == other.answer
    assert json.loads(other.seen["entries"]) == FACES
    assert other.seen["image"] == PNG
    both = predict(served, {**FACES, **visual()}, image=PNG).json()
    assert json.loads(other.seen["entries"]) == FACES
    assert both["facial-recognition"] == faces
    np.testing.assert_allclose(json.loads(both["clip"]), ours.embed_images(PNG), atol=1e-6)


@pytest.mark.parametrize(("status", "expected"), [(422, 422), (500, 502), (503, 503)])
def test_what_the_other_service_refuses_is_refused(
    serve: Callable[..., RunningGateway], other: OtherService, status: int, expected: int
) -> None:
    other.status, other.answer = status, {"detail": "no such model"}
    answer = predict(serve(forward={"immich": other.url}), FACES, image=PNG)
    assert answer.status_code == expected
    assert set(answer.json()) == {"detail"}


def test_another_service_that_is_gone_or_gives_too_much_is_no_hang(
    serve: Callable[..., RunningGateway], other: OtherService
) -> None:
    served = serve(forward={"immich": other.url})
    other.body = b"no json"
    assert predict(served, FACES, image=PNG).status_code == 502
    other.stop()
    answer = predict(served, FACES, image=PNG)
    assert answer.status_code == 503
    assert set(answer.json()) == {"detail"}


def test_a_model_stands_in_under_every_name_of_its_dimensions() -> None:
    check_name("ViT-B-32__openai", "emoji", 512)
    check_name("immich-app/ViT-B-32::openai", "emoji", 512)
    check_name("emoji", "emoji", 100)
    for name, dimension in (("ViT-B-32__openai", 768), ("ViT-L-14__openai", 512), ("nobody", 512), ("", 512)):
        with pytest.raises(Refused) as caught:
            check_name(name, "emoji", dimension)
        assert caught.value.status == 404
        assert f"such as {DIMENSIONS[dimension][0]}" in caught.value.message
    with pytest.raises(Refused, match="no model of that many"):
        check_name("ViT-B-32__openai", "emoji", 100)


def test_the_names_are_those_of_the_converter() -> None:
    from export.formats import immich

    assert {dimension: names[0] for dimension, names in DIMENSIONS.items()} == immich._DIMENSIONS
    names = [name for group in DIMENSIONS.values() for name in group]
    assert len(names) == len(set(names)) == 58
