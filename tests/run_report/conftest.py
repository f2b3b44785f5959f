"""Real pictures of the bundled corpus with vectors of their pixels: a joint space that needs no training."""

from __future__ import annotations

import io
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from protoclip.config.load import build_config
from protoclip.data.table import load_pairs
from protoclip.evaluation.subsets import label_texts
from protoclip.run_report.embedded import Embedded
from protoclip.sources import Pairs

STYLES = ("twemoji", "noto", "openmoji")
GAP = 1.0


@pytest.fixture(scope="session")
def embedded() -> Embedded:
    """Three styles of every seventh concept. A text's vector is made of its concept's openmoji drawing, and all
    texts are moved in one direction."""
    pairs = _some_pairs()
    image_vectors = np.stack([_pixels(pairs.read_image(row)) for row in range(len(pairs))])
    labels = label_texts(pairs, "concept")
    own = {int(text): row for row, text in enumerate(labels.owners) if pairs.column("style")[row] == "openmoji"}
    shift = np.zeros(image_vectors.shape[1])
    shift[-1] = GAP
    moved = np.stack([image_vectors[own[text]] + shift for text in range(len(labels.texts))])
    text_vectors = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return Embedded(pairs, image_vectors.astype(np.float32), labels, text_vectors.astype(np.float32))


def _some_pairs() -> Pairs:
    paths = [str(files("protoclip") / "demo" / "corpus" / f"{style}.parquet") for style in STYLES]
    data = {"path": paths, "text_columns": ["texts"], "group_column": "concept", "split_column": "split"}
    pairs = load_pairs(build_config({"data": data, "train": {"steps": 1}}, "test").data)
    concepts = sorted(set(pairs.column("concept")))[::7]
    return pairs.select(np.isin(pairs.column("concept").astype(str), concepts))


def _pixels(picture: bytes) -> np.ndarray:
    """Centred, of unit norm, with a last component that no picture has."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB").resize((6, 6)), dtype=np.float64).ravel()
    vector = np.append(pixels - pixels.mean(), 0.0)
    return vector / max(np.linalg.norm(vector), 1e-9)
