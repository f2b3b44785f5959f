"""What a type checker says of the client's and the index's answers; `make check` checks it, nothing runs it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import assert_type

from numpy.typing import ArrayLike

from protoclip import AsyncClient, ClassBank, Classification, Client, Embeddings, Hit, Index
from protoclip.client.transport import Matrix, Vector
from protoclip.search import Copied, Store, StoreTraits, copy_index, create_index, open_index, traits_of


def answers(client: Client, index: Index, unknown: ArrayLike) -> None:
    assert_type(client.embed_texts("red shoes"), Vector)
    assert_type(client.embed_texts(["red shoes", "hat"]), Matrix)
    assert_type(client.embed_images(Path("cat.jpg")), Vector)
    assert_type(client.embed_images(["cat.jpg", b"..."]), Matrix)
    with Path("cat.jpg").open("rb") as file:
        assert_type(client.embed_images(file), Vector)
        assert_type(client.embed_images([file, io.BytesIO(), bytearray()]), Matrix)
        assert_type(client.classify(file, ("cat", "dog")), Classification)
    assert_type(client.embed_texts(["hat"], errors="return"), Embeddings)
    assert_type(client.classify("cat.jpg", ["cat", "dog"]), Classification)
    bank = client.class_bank(["cat", "dog"], "imagenet")
    assert_type(bank, ClassBank)
    assert_type(client.classify("cat.jpg", bank, top_k=1), Classification)
    assert_type(client.classify(["cat.jpg"], bank, multi_label=True, threshold=0.2), list[Classification])
    assert_type(index.search(client.embed_texts("red shoes")), list[Hit])
    assert_type(index.search(client.embed_texts(["red shoes", "hat"]), k=3), list[list[Hit]])
    assert_type(index.search(unknown), list[Hit] | list[list[Hit]])
    assert_type(client.search(index, text="red shoes"), list[Hit])


async def awaited(client: AsyncClient, index: Index) -> None:
    assert_type(await client.embed_texts("red shoes", timeout_s=None), Vector)
    assert_type(await client.embed_texts(["red shoes", "hat"]), Matrix)
    assert_type(await client.embed_images(Path("cat.jpg"), timeout_s=1), Vector)
    assert_type(await client.embed_images(["cat.jpg"], errors="return"), Embeddings)
    assert_type(await client.classify("cat.jpg", ["cat", "dog"]), Classification)
    assert_type(await client.search(index, text="red shoes"), list[Hit])
    async for part in client.stream_texts(["red shoes"]):
        assert_type(part, Embeddings)


def stores(client: Client, index: Index) -> None:
    """A local index is a store like any other."""
    store: Store = index
    for store in (index, open_index("shop.index", client), create_index("milvus://host/shop", "0123abcd", 8)):
        assert_type(store.search(client.embed_texts("red shoes")), list[Hit])
        assert_type(store.search(client.embed_texts(["red shoes"]), k=3), list[list[Hit]])
        assert_type(client.search(store, text="red shoes"), list[Hit])
        assert_type(store.stats().bytes, int | None)
        assert_type(traits_of(store), StoreTraits)
    assert_type(copy_index(index, "postgresql:///shop?index=shop"), Copied)
