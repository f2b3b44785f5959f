"""FiftyOne's Model, with fiftyone itself and its database: `make integrations`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.core.config as foc
import fiftyone.core.models as fom
import numpy as np
import pytest
from PIL import Image

from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ItemError
from protoclip.integrations import FiftyOneModel


@pytest.fixture
def dataset(pictures: list[Path]) -> Iterator[fo.Dataset]:
    try:
        made = fo.Dataset()
    except foc.FiftyOneConfigError as error:
        pytest.skip(f"FiftyOne has no database here: {error}")
    made.add_samples([fo.Sample(str(path)) for path in pictures[:3]])
    yield made
    made.delete()


def test_it_is_a_model_that_embeds_pictures_and_words(client: Client, pictures: list[Path]) -> None:
    model = FiftyOneModel(client)
    assert isinstance(model, fom.Model)
    assert model.media_type == "image"
    assert model.has_embeddings
    assert model.can_embed_prompts
    arrays = [np.asarray(Image.open(path)) for path in pictures[:3]]
    expected = client.embed_images(pictures[:3])
    np.testing.assert_allclose(model.embed_all(arrays), expected, atol=1e-6)
    np.testing.assert_allclose(model.get_embeddings(), expected, atol=1e-6)
    np.testing.assert_allclose(model.embed(arrays[1]), expected[1], atol=1e-6)
    np.testing.assert_allclose(model.embed_prompts(["a", "b"]), client.embed_texts(["a", "b"]), atol=1e-6)
    np.testing.assert_allclose(model.embed_prompt("a"), client.embed_texts("a"), atol=1e-6)


def test_it_gives_labels(client: Client, pictures: list[Path]) -> None:
    model = FiftyOneModel(client, labels=["a shoe", "a hat"])
    found = model.predict_all([np.asarray(Image.open(path)) for path in pictures[:3]])
    assert all(isinstance(label, fo.Classification) for label in found)
    expected = client.classify(pictures[:3], ["a shoe", "a hat"])
    assert [label.label for label in found] == [answer.label for answer in expected]


def test_samples_get_embeddings(dataset: fo.Dataset, client: Client, pictures: list[Path]) -> None:
    model = FiftyOneModel(client)
    expected = client.embed_images(pictures[:3])
    np.testing.assert_allclose(dataset.compute_embeddings(model), expected, atol=1e-6)
    dataset.compute_embeddings(model, embeddings_field="tiny", batch_size=2)
    np.testing.assert_allclose(np.stack(dataset.values("tiny")), expected, atol=1e-6)


def test_samples_get_labels(dataset: fo.Dataset, client: Client, pictures: list[Path]) -> None:
    dataset.apply_model(FiftyOneModel(client, labels=["a shoe", "a hat"]), label_field="kind", batch_size=2)
    expected = client.classify(pictures[:3], ["a shoe", "a hat"])
    assert dataset.values("kind.label") == [answer.label for answer in expected]
    assert dataset.values("kind.confidence") == pytest.approx([answer.score for answer in expected], abs=1e-5)


def test_without_labels_there_are_none(client: Client) -> None:
    with pytest.raises(ConfigError):
        FiftyOneModel(client).predict(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ItemError):
        FiftyOneModel(client).embed(np.zeros((8, 8, 2), np.uint8))
