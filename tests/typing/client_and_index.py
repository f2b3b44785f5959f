"""What a type checker says of the client's and the index's answers; `make check` checks it, nothing runs it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import assert_type

from numpy.typing import ArrayLike

from protoclip import Classification, Client, Embeddings, Hit, Index
from protoclip.client.transport import Matrix, Vector


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
    assert_type(index.search(client.embed_texts("red shoes")), list[Hit])
    assert_type(index.search(client.embed_texts(["red shoes", "hat"]), k=3), list[list[Hit]])
    assert_type(index.search(unknown), list[Hit] | list[list[Hit]])
    assert_type(client.search(index, text="red shoes"), list[Hit])
