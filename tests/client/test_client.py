"""The client against functions, an artifact in this process, and a real Triton over gRPC and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_bytes import saved
from PIL import Image

from protoclip.client import Client, InMemoryTransport, MemoryModel, ModelNotFound
from protoclip.client.transport import Answer
from protoclip.contract.errors import ConfigError, ItemError, ServerError
from protoclip.search import Index

TOLERANCE = 1e-5
TEXTS = ["a red shoe", "漢字 🙂 &amp; ΟΔΥΣΣΕΥΣ", "it's <b>bold</b>", "x" * 3000]


class TestEmbedding:
    def test_pictures_keep_their_order_over_many_batches(
        self, make_client: Callable[..., Client], arrays: list[Any], expected: NDArray[np.float32]
    ) -> None:
        for batch_size, concurrency in ((1, 4), (3, 2), (32, 1)):
            vectors = make_client(batch_size=batch_size, concurrency=concurrency).embed_images(arrays)
            assert vectors.shape == expected.shape
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=TOLERANCE)

    def test_all_kinds_of_input_give_the_same(self, client: Client, arrays: list[Any], tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(saved(Image.fromarray(arrays[0])))
        kinds = [path, str(path), path.read_bytes(), Image.fromarray(arrays[0]), arrays[0]]
        vectors = client.embed_images(kinds)
        np.testing.assert_allclose(vectors, np.stack([vectors[0]] * 5), atol=TOLERANCE)

    def test_one_item_gives_one_vector_and_none_gives_no_rows(self, client: Client, arrays: list[Any]) -> None:
        assert client.embed_images(arrays[0]).shape == (16,)
        assert client.embed_images(arrays[:1]).shape == (1, 16)
        assert client.embed_images([]).shape == (0, 16)
        assert client.embed_texts("x").shape == (16,)
        assert client.embed_texts([]).shape == (0, 16)

    def test_texts(self, client: Client, memory_model: MemoryModel) -> None:
        vectors = client.embed_texts(TEXTS)
        expected = np.stack([np.asarray(memory_model.embed_text(text)) for text in TEXTS])
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)

    def test_threads_may_share_a_client(
        self, client: Client, arrays: list[Any], expected: NDArray[np.float32]
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda row: client.embed_images(arrays[row : row + 3]), range(16)))
        for row, vectors in enumerate(answers):
            np.testing.assert_allclose(vectors, expected[row : row + 3], atol=TOLERANCE)

    def test_generators_are_read_no_further_than_needed(self, make_client: Callable[..., Client]) -> None:
        read = []

        def endless() -> Iterator[str]:
            while True:
                read.append(1)
                yield f"text {len(read)}"

        stream = make_client(batch_size=2, concurrency=3).stream_texts(endless())
        parts = [next(stream) for _ in range(5)]
        assert [part.start for part in parts] == [0, 2, 4, 6, 8]
        assert len(read) <= (5 + 3 + 1) * 2 + 1


class TestBadItems:
    def test_have_their_positions_and_harm_no_others(
        self, make_client: Callable[..., Client], arrays: list[Any], expected: NDArray[np.float32]
    ) -> None:
        items: list[Any] = list(arrays)
        items[2] = b"no picture"
        items[3] = "missing.jpg"
        items[11] = saved(Image.fromarray(arrays[11]))[:-30]
        items[18] = arrays[18].astype(float)
        good = [row for row in range(19) if row not in (2, 3, 11, 18)]
        for batch_size in (1, 4, 32):
            answer = make_client(batch_size=batch_size).embed_images(items, errors="return")
            assert [error.position for error in answer.errors] == [2, 3, 11, 18]
            reasons = [error.reason for error in answer.errors]
            assert "no picture in a known format" in reasons[0]
            assert reasons[1] == "missing.jpg: No such file or directory"
            assert "damaged or cut short" in reasons[2]
            assert "float64" in reasons[3]
            np.testing.assert_allclose(answer.vectors[good], expected[good], atol=TOLERANCE)
            assert np.isnan(answer.vectors[[2, 3, 11, 18]]).all()

    def test_reasons_do_not_depend_on_being_alone(self, client: Client, arrays: list[Any]) -> None:
        alone = client.embed_images([b"no picture"], errors="return").errors[0].reason
        among = client.embed_images([arrays[0], b"no picture"], errors="return").errors[0].reason
        assert alone == among
        assert alone.startswith("this is no picture")

    def test_raise_the_first(self, client: Client, arrays: list[Any]) -> None:
        with pytest.raises(ItemError, match=r"^item 1: this is no picture") as caught:
            client.embed_images([arrays[0], b"no picture", "missing.jpg"])
        assert caught.value.position == 1

    def test_a_single_one(self, client: Client) -> None:
        with pytest.raises(ItemError, match=r"^item 0: this is"):
            client.embed_images(b"no picture")
        answer = client.embed_images(b"no picture", errors="return")
        assert answer.vectors.shape == (16,)
        assert np.isnan(answer.vectors).all()
        assert [error.position for error in answer.errors] == [0]

    def test_of_texts(self, client: Client) -> None:
        answer = client.embed_texts(["good", " ", 3, "good", b"bytes"], errors="return")  # type: ignore[list-item]
        assert [error.position for error in answer.errors] == [1, 2, 4]
        assert np.isnan(answer.vectors).all(axis=1).tolist() == [False, True, True, False, True]
        with pytest.raises(ItemError, match="item 0: the text is blank"):
            client.embed_texts("")

    def test_errors_must_be_known(self, client: Client) -> None:
        with pytest.raises(ConfigError, match="use 'raise' or 'return'"):
            client.embed_texts("x", errors="ignore")  # type: ignore[call-overload]


class TestSearch:
    def test_by_text_and_by_image(
        self, client: Client, arrays: list[Any], expected: NDArray[np.float32], tmp_path: Path
    ) -> None:
        index = Index.create(tmp_path / "index", client.model.fingerprint, client.model.embedding_dim)
        index.add(expected, [str(row) for row in range(19)])
        hits = client.search(index, image=arrays[7], k=3)
        assert hits[0].id == "7"
        assert hits[0].score == pytest.approx(1, abs=TOLERANCE)
        by_text = client.search(index, text="red shoes", k=19)
        best = np.argsort(-expected @ client.embed_texts("red shoes"))
        assert [hit.id for hit in by_text] == [str(row) for row in best]

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"minus": "a"},
            {"text": {}},
            {"text": {"a": 0}},
            {"text": "a", "minus": "a"},
            {"text": ["a", "b"]},
            {"image": [b"a"]},
            {"text": b"a"},
            {"text": 3},
        ],
    )
    def test_takes_one_query(self, client: Client, tmp_path: Path, arguments: dict[str, Any]) -> None:
        index = Index.create(tmp_path / "index", client.model.fingerprint, client.model.embedding_dim)
        with pytest.raises(ConfigError):
            client.search(index, **arguments)


class TestModel:
    def test_is_found_and_described(self, client: Client) -> None:
        model = client.model
        assert (model.name, model.prefix, model.fingerprint) == ("tiny", "tiny_012345", "0123456789abcdef")
        assert (model.embedding_dim, model.temperature, model.logit_bias) == (16, 100.0, None)
        assert (model.precision, model.verdict) == ("fp32", "passed")
        assert model.max_batch_size == 64

    @pytest.mark.parametrize("name", ["tiny", "tiny_012345"])
    def test_is_found_by_name(self, make_client: Callable[..., Client], name: str) -> None:
        assert make_client(model=name).model.prefix == "tiny_012345"

    def test_is_gone_after_closing(self, client: Client) -> None:
        client.embed_texts("x")
        client.close()
        with pytest.raises(ServerError, match="the client is closed: make a new one"):
            client.embed_texts("x")

    def test_another_name_is_told(self, make_client: Callable[..., Client]) -> None:
        with pytest.raises(ModelNotFound, match="it serves tiny_012345"):
            make_client(model="huge").embed_texts("x")


class _Counting(InMemoryTransport):
    """Counts requests by input."""

    def __init__(self, *models: MemoryModel) -> None:
        super().__init__(*models)
        self.sizes: dict[str, list[int]] = {"image": [], "text": []}
        self.lock = threading.Lock()

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        with self.lock:
            self.sizes[input_name].append(len(items))
        return super().infer(model, input_name, items, timeout_s)


def test_class_vectors_are_kept(memory_model: MemoryModel, arrays: list[Any]) -> None:
    transport = _Counting(memory_model)
    with Client(transport=transport) as client:
        for _ in range(3):
            client.classify(arrays[0], ["a", "b"], "photo")
        client.classify(arrays[0], ["b", "a"], "photo")
    assert transport.sizes["text"] == [10, 10]


def test_batches_keep_the_servers_limit_and_32_mib(memory_model: MemoryModel) -> None:
    limited = MemoryModel(lambda data: np.ones(4), lambda text: np.ones(4), 4, max_batch_size=5)
    transport = _Counting(limited)
    with Client(transport=transport, batch_size=100, concurrency=1) as client:
        client.embed_texts(["x"] * 12)
        assert transport.sizes["text"] == [5, 5, 2]
        client.embed_images([bytes(12 << 20)] * 4 + [b"x"])
        assert transport.sizes["image"] == [3, 2]


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"batch_size": 0},
        {"concurrency": -1},
        {"url": "ftp://a:1"},
        {"url": "grpc://a:1", "transport": InMemoryTransport()},
    ],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Client(**options)
