"""SentenceEncoder in sentence-transformers' own functions: `make integrations`."""

from __future__ import annotations

import inspect

import numpy as np

from protoclip.client import Client
from protoclip.encoders.torchvision_workaround import make_torchvision_importable
from protoclip.integrations import SentenceEncoder

make_torchvision_importable()
from sentence_transformers import SentenceTransformer  # noqa: E402  not importable before
from sentence_transformers.util import cos_sim, semantic_search  # noqa: E402

TEXTS = ["a red shoe", "a blue hat", "a green sock"]


def test_its_search_takes_our_vectors(client: Client) -> None:
    encoder = SentenceEncoder(client)
    corpus = encoder.encode(TEXTS, convert_to_tensor=True)
    found = semantic_search(encoder.encode([TEXTS[2]], convert_to_tensor=True), corpus, top_k=1)
    assert found[0][0]["corpus_id"] == 2
    similarities = cos_sim(encoder.encode(TEXTS), encoder.encode(TEXTS)).numpy()
    np.testing.assert_allclose(np.diag(similarities), 1.0, atol=1e-5)


def test_encode_has_the_names_of_its_arguments() -> None:
    theirs = inspect.signature(SentenceTransformer.encode).parameters
    ours = inspect.signature(SentenceEncoder.encode).parameters
    named = [name for name, parameter in ours.items() if parameter.kind is not parameter.VAR_KEYWORD]
    assert set(named) <= set(theirs)
    for name in named[2:]:
        if name != "normalize_embeddings":
            assert ours[name].default == theirs[name].default, name
