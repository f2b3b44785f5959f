"""OpenAI's dialect, asked by OpenAI's own package."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import openai
import pytest
from dialect_server import KEY
from openai import AsyncOpenAI, OpenAI
from picture_bytes import saved, smooth
from running_gateway import RunningGateway

from protoclip.client import Client

PNG = saved(smooth(40, 20))
OTHER = saved(smooth(20, 40))


def uri(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@pytest.fixture
def connect() -> Iterator[Callable[..., OpenAI]]:
    """`connect(gateway, **options)`: their client, which is closed in the end."""
    with ExitStack() as stack:

        def made(gateway: RunningGateway, **options: Any) -> OpenAI:
            values: dict[str, Any] = {"api_key": KEY, "max_retries": 0} | options
            return stack.enter_context(OpenAI(base_url=f"{gateway.url}/v1", **values))

        yield made


@pytest.fixture
def client(connect: Callable[..., OpenAI], served: RunningGateway) -> OpenAI:
    return connect(served)


def error_of(caught: pytest.ExceptionInfo[openai.APIStatusError]) -> dict[str, Any]:
    body = caught.value.response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


def test_texts_have_the_vectors_of_our_client_in_their_order(client: OpenAI, ours: Client) -> None:
    texts = ["a red shoe", "a blue one", "<b>a third</b>"]
    answer = client.embeddings.create(model="tiny", input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert answer.object == "list"
    assert answer.data[0].object == "embedding"
    assert answer.model == "tiny_012345"
    found = np.array([item.embedding for item in answer.data], dtype=np.float32)
    np.testing.assert_array_equal(found, ours.embed_texts(texts))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_both_encodings_give_the_same_numbers(client: OpenAI, ours: Client, encoding: Any) -> None:
    answer = client.embeddings.create(model="tiny", input="a red shoe", encoding_format=encoding)
    value: Any = answer.data[0].embedding
    if encoding == "base64":
        assert isinstance(value, str)
        value = np.frombuffer(base64.b64decode(value), dtype="<f4")
    np.testing.assert_array_equal(np.asarray(value, dtype=np.float32), ours.embed_texts("a red shoe"))


def test_usage_counts_words_of_texts_and_nothing_for_pictures(client: OpenAI) -> None:
    answer = client.embeddings.create(model="tiny", input=["a red  shoe", uri(PNG), "one"])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4


def test_pictures_stand_among_texts_in_every_form(client: OpenAI, ours: Client) -> None:
    mixed: Any = [
        "a shoe",
        uri(PNG),
        {"image": uri(OTHER)},
        {"image": base64.b64encode(PNG).decode()},
        {"text": "x"},
    ]
    answer = client.embeddings.create(model="tiny", input=mixed)
    found = np.array([item.embedding for item in answer.data], dtype=np.float32)
    texts, pictures = ours.embed_texts(["a shoe", "x"]), ours.embed_images([PNG, OTHER, PNG])
    expected = np.stack([texts[0], pictures[0], pictures[1], pictures[2], texts[1]])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_modality_says_what_all_strings_are(client: OpenAI, ours: Client) -> None:
    plain = [base64.b64encode(picture).decode() for picture in (PNG, OTHER)]
    answer = client.embeddings.create(model="tiny", input=plain, extra_body={"modality": "image"})
    found = np.array([item.embedding for item in answer.data], dtype=np.float32)
    np.testing.assert_allclose(found, ours.embed_images([PNG, OTHER]), atol=1e-6)


def test_messages_hold_one_picture(client: OpenAI, ours: Client) -> None:
    part = {"type": "image_url", "image_url": {"url": uri(PNG)}}
    body: dict[str, object] = {"model": "tiny", "messages": [{"role": "user", "content": [part]}]}
    answer = client.post("/embeddings", cast_to=object, body=body)
    assert isinstance(answer, dict)
    np.testing.assert_allclose(answer["data"][0]["embedding"], ours.embed_images(PNG), atol=1e-6)


def test_the_asynchronous_client_asks_many_at_once(served: RunningGateway, ours: Client) -> None:
    texts = [f"shoe number {number}" for number in range(20)]

    async def ask() -> list[list[float]]:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY) as client:
            answers = await asyncio.gather(*(client.embeddings.create(model="tiny", input=text) for text in texts))
        return [answer.data[0].embedding for answer in answers]

    np.testing.assert_allclose(np.array(asyncio.run(ask())), ours.embed_texts(texts), atol=1e-6)


def test_models_are_listed_and_found_by_either_name(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["tiny", "tiny_012345"]
    for name in names:
        found = client.models.retrieve(name)
        assert (found.id, found.owned_by, found.object) == (name, "protoclip", "model")
        assert found.to_dict()["embedding_dim"] == 16
        assert client.embeddings.create(model=name, input="a").model == "tiny_012345"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    for ask in (
        lambda: client.embeddings.create(model="text-embedding-3-small", input="a"),
        lambda: client.models.retrieve("text-embedding-3-small"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        error = error_of(caught)
        assert (error["code"], error["param"], error["type"]) == (
            "model_not_found",
            "model",
            "invalid_request_error",
        )
        assert "use one of tiny, tiny_012345" in error["message"]


def test_one_bad_picture_among_good_ones_refuses_all_and_names_it(client: OpenAI) -> None:
    mixed = ["a", uri(PNG), uri(b"this is no picture"), uri(PNG[:60]), "b"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny", input=mixed)
    error = error_of(caught)
    assert error["message"].startswith("input[2]: ")
    assert error["message"].endswith("(1 more can't be embedded)")
    assert error["param"] == "input"


@pytest.mark.parametrize("given", ["", "  ", [], ["a", ""], ["a\0b"]])
def test_empty_inputs_are_refused(client: OpenAI, given: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny", input=given)
    assert error_of(caught)["param"] == "input"


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_in_a_line_that_says_what_to_do(client: OpenAI, given: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="tiny", input=given)


def test_dimensions_may_be_what_the_model_has(client: OpenAI) -> None:
    assert len(client.embeddings.create(model="tiny", input="a", dimensions=16).data[0].embedding) == 16
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny", input="a", dimensions=8)
    assert error_of(caught)["param"] == "dimensions"


def test_too_large_a_request_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model="tiny", input="a" * (2 * 1024 * 1024))
    assert caught.value.status_code == 413
    assert error_of(caught)["code"] == "too_large"
    with pytest.raises(openai.BadRequestError, match="the limit is 2048"):
        client.embeddings.create(model="tiny", input=["a"] * 2049)


def test_a_body_that_is_no_json_has_openais_error(client: OpenAI, served: RunningGateway) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(
            "/embeddings", cast_to=object, content=b"{", options={"headers": {"Content-Type": "application/json"}}
        )
    assert error_of(caught)["type"] == "invalid_request_error"


def test_a_wrong_key_is_an_authentication_error(connect: Callable[..., OpenAI], served: RunningGateway) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        connect(served, api_key="x" * 16).embeddings.create(model="tiny", input="a")
    assert error_of(caught)["code"] == "invalid_api_key"


def test_a_restarting_server_is_asked_again(
    connect: Callable[..., OpenAI], serve: Callable[..., RunningGateway], flaky: Any
) -> None:
    served = serve(flaky)
    flaky.failures = 1
    with pytest.raises(openai.InternalServerError) as caught:
        connect(served).embeddings.create(model="tiny", input="a")
    assert caught.value.status_code == 503
    assert caught.value.response.headers["Retry-After"] == "2"
    assert error_of(caught)["type"] == "server_error"
    flaky.failures = 1
    assert len(connect(served, max_retries=1).embeddings.create(model="tiny", input="a").data[0].embedding) == 16
    assert flaky.failures == 0


def test_a_client_that_goes_leaves_the_server_well(
    connect: Callable[..., OpenAI], serve: Callable[..., RunningGateway], slow: Any
) -> None:
    served = serve(slow)
    with pytest.raises(openai.APITimeoutError):
        connect(served, timeout=0.5).embeddings.create(model="tiny", input="a")
    slow.release.set()
    assert len(connect(served).embeddings.create(model="tiny", input="a").data[0].embedding) == 16
