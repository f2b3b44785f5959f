"""Whatever JSON comes, a dialect reads it or refuses it by 4xx."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.dialects import weaviate
from serving.gateway.dialects.immich.entries import read_entries
from serving.gateway.dialects.openai.inputs import read_request
from serving.gateway.errors import Refused

WORDS = [
    "a",
    "",
    "data:image/png;base64,",
    "data:image/png;base64,AAAA",
    "https://a.b/c",
    "image",
    "text",
    "float",
]
SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
)
JSON = st.recursive(
    SIMPLE,
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(
            st.sampled_from(["text", "image", "image_url", "url", "content", "modelName", "visual", "textual"]),
            part,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def fields(*names: str) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(names), JSON, max_size=len(names))


def read_or_refused(read: Callable[[], Any]) -> Any:
    """What it reads, or the refusal."""
    try:
        return read()
    except Refused as refusal:
        return refusal


@given(JSON | fields("model", "input", "messages", "modality", "encoding_format", "dimensions"))
def test_openai(body: object) -> None:
    found = read_or_refused(lambda: read_request(body, max_items=3))
    if isinstance(found, Refused):
        assert 400 <= found.status < 500
        assert "\n" not in found.message
    else:
        assert sorted([*found.texts, *found.pictures]) == list(range(len(found.places)))


@given(JSON | fields("texts", "images"))
def test_weaviate(body: object) -> None:
    found = read_or_refused(lambda: weaviate._read(body, max_items=3))
    if isinstance(found, Refused):
        assert 400 <= found.status < 500
    else:
        assert sum(map(len, found)) <= 3


@given(JSON | fields("clip", "ocr", "facial-recognition"))
def test_immich(entries: object) -> None:
    found = read_or_refused(lambda: read_entries(json.dumps(entries)))
    if isinstance(found, Refused):
        assert found.status == 422
    else:
        assert found.clip is not None or found.others
