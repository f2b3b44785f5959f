"""Which JSON is which request to /v1/embeddings, without a server."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from picture_bytes import saved, smooth

from serving.gateway.dialects.openai.inputs import WrongField, read_request

PNG = saved(smooth(8, 8))
BASE64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{BASE64}"


def read(**body: Any) -> Any:
    return read_request({"model": "shop", **body}, max_items=10)


@pytest.mark.parametrize(
    ("body", "texts", "pictures"),
    [
        ({"input": "red shoes"}, {0: "red shoes"}, {}),
        ({"input": ["a", "b"]}, {0: "a", 1: "b"}, {}),
        ({"input": URI}, {}, {0: PNG}),
        ({"input": URI.replace("data:image/png", "DATA:IMAGE/PNG")}, {}, {0: PNG}),
        ({"input": ["a", URI, "b"]}, {0: "a", 2: "b"}, {1: PNG}),
        ({"input": [URI.replace("image/png", ""), "data: a text"]}, {1: "data: a text"}, {0: PNG}),
        ({"input": [{"text": "a"}, {"image": URI}, {"image": BASE64}]}, {0: "a"}, {1: PNG, 2: PNG}),
        ({"input": {"image": URI}}, {}, {0: PNG}),
        ({"input": [URI, BASE64], "modality": "image"}, {}, {0: PNG, 1: PNG}),
        ({"input": BASE64}, {0: BASE64}, {}),
        ({"input": URI, "modality": "text"}, {0: URI}, {}),
        ({"input": {"text": URI}}, {0: URI}, {}),
        ({"input": "a", "modality": None, "encoding_format": None, "dimensions": None, "user": "u"}, {0: "a"}, {}),
        ({"input": [{"type": "image_url", "image_url": {"url": URI}}]}, {}, {0: PNG}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, {0: "a"}, {}),
        ({"messages": [{"role": "user", "content": "a"}]}, {0: "a"}, {}),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URI}}]}]},
            {},
            {0: PNG},
        ),
    ],
)
def test_forms_that_are_accepted(body: dict[str, Any], texts: dict[int, str], pictures: dict[int, bytes]) -> None:
    request = read(**body)
    assert request.texts == texts
    assert request.pictures == pictures
    assert len(request.places) == len(texts) + len(pictures)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "input", "input is missing"),
        ({"input": None}, "input", "input is missing"),
        ({"input": []}, "input", "an empty list"),
        ({"input": ["a"] * 11}, "input", "11 items, the limit is 10"),
        ({"input": 3}, "input", "token ids"),
        ({"input": [3, 4]}, "input", "token ids"),
        ({"input": list(range(1000))}, "input", "token ids"),
        ({"input": [[3, 4], [5]]}, "input", "token ids"),
        ({"input": ["a", [3]]}, "input", "token ids"),
        ({"input": ["a", None]}, "input", "input[1] is neither"),
        ({"input": ["a", True]}, "input", "input[1] is neither"),
        ({"input": ["a", ["b"]]}, "input", "input[1] is neither"),
        ({"input": [{}]}, "input", 'input[0] must have one of "text"'),
        ({"input": [{"text": "a", "image": URI}]}, "input", 'input[0] must have one of "text"'),
        ({"input": [{"image": 3}]}, "input", "input[0].image must be a string"),
        ({"input": [{"image_url": {"uri": URI}}]}, "input", "input[0].image_url must be a string"),
        ({"input": ["a", {"image": "https://example.org/cat.jpg"}]}, "input", "input[1]: a picture is an address"),
        (
            {"input": ["https://example.org/cat.jpg"], "modality": "image"},
            "input",
            "input[0]: a picture is an address",
        ),
        ({"input": ["a", "data:image/png;base64,%%"]}, "input", "input[1]: a picture is no base64"),
        ({"input": ["data:audio/wav;base64,AAAA"]}, "input", "of type 'audio/wav'"),
        ({"input": ["data:image/svg+xml,<svg>"]}, "input", "not in base64"),
        ({"input": "a", "modality": "audio"}, "modality", "modality='audio' is unknown"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "use 'float' or 'base64'"),
        ({"input": "a", "dimensions": "64"}, "dimensions", "not a whole number"),
        ({"input": "a", "dimensions": True}, "dimensions", "not a whole number"),
        ({"input": "a", "model": None}, "model", "model is missing"),
        ({"input": "a", "model": ""}, "model", "model is missing"),
        ({"input": "a", "messages": [{"content": "a"}]}, "messages", "not both"),
        ({"messages": "a"}, "messages", "one message"),
        ({"messages": [{"content": "a"}, {"content": "b"}]}, "messages", "one message"),
        ({"messages": [{"content": [{"text": "a"}, {"text": "b"}]}]}, "messages", "one message"),
        ({"messages": [{}]}, "messages", "one message"),
    ],
)
def test_forms_that_are_refused_name_their_field(body: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(WrongField) as caught:
        read(**body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert message in caught.value.message


@pytest.mark.parametrize("body", [None, [], "a", 3])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(WrongField, match="must be a JSON object"):
        read_request(body, max_items=10)
