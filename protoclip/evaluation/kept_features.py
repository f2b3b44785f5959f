"""Embeddings of pictures that an earlier evaluation made, kept beside a run.

They are found by what they were made from: the bytes of every picture, in order, and the model. Nothing is looked
up by name or time, so that what has changed is embedded again. `N` pictures, `D` embedding.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from protoclip.contract.errors import DataError, ProtoclipError
from protoclip.contract.files import atomic_path
from protoclip.contract.pixels import PictureError
from protoclip.distributed import collectives
from protoclip.sources import Pairs

from .features import ImageFeatures, MeasuredModel, extract_images, own_rows

logger = logging.getLogger(__name__)

FEATURES_FOLDER = "features"
_FORMAT = 1
_KEPT = 16
_DIGEST_BYTES = 16


class KeptFeatures:
    """A folder of embeddings, of which the last 16 tables stay.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def extract(
        self, model: MeasuredModel, pairs: Pairs, *, batch_size: int, on_batch: Callable[[int], None]
    ) -> ImageFeatures:
        """As `extract_images`; what an earlier call made of the same pictures by the same model is read.

        A model without a fingerprint, such as an exported engine, is asked anew each time. All ranks call it.
        """
        fingerprint = getattr(model, "fingerprint", None)
        if fingerprint is None:
            return extract_images(model, pairs, batch_size=batch_size, on_batch=on_batch)
        path = self._folder / f"{_key(fingerprint, pairs, batch_size)}.safetensors"
        found = _read(path)
        # A rank that can't see the first one's folder takes all others with it.
        if any(collectives.largest(int(found is None))):
            found = extract_images(model, pairs, batch_size=batch_size, on_batch=on_batch)
            kept = found
            collectives.on_first(lambda: self._keep(path, kept))
        else:
            on_batch(len(pairs))
        assert found is not None
        return found

    def _keep(self, path: Path, found: ImageFeatures) -> None:
        """Writes them; what can't be kept is embedded again the next time, and nothing else is lost."""
        try:
            self._write(path, found)
        except (OSError, ProtoclipError) as error:
            logger.warning("%s: embeddings can't be kept here: %s", self._folder, error)

    def _write(self, path: Path, found: ImageFeatures) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            tensors: dict[str, NDArray[Any]] = {
                "vectors": np.ascontiguousarray(found.vectors),
                "rows": found.rows,
            }
            save_file(tensors, temporary, metadata={"skipped": json.dumps(found.skipped)})
        files = sorted(self._folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)


def _read(path: Path) -> ImageFeatures | None:
    """None where there is no such file, or it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as tensors:
            skipped = json.loads((tensors.metadata() or {})["skipped"])
            vectors, rows = tensors.get_tensor("vectors"), tensors.get_tensor("rows")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("%s: is damaged, and made again: %s", path, error)
        return None
    return ImageFeatures(vectors, rows, tuple((row, reason) for row, reason in skipped))


def _key(fingerprint: str, pairs: Pairs, batch_size: int) -> str:
    """Of model and pictures, the same on all ranks; each reads its share of the pictures."""
    own = own_rows(len(pairs), batch_size)
    digests = np.stack([_digest(pairs, row) for row in own]) if len(own) else np.zeros((0, 2), dtype=np.int64)
    whole = collectives.fill(torch.from_numpy(digests), torch.from_numpy(own), len(pairs))
    joined = hashlib.sha256(json.dumps([_FORMAT, fingerprint, len(pairs)]).encode())
    joined.update(whole.numpy().tobytes())
    return joined.hexdigest()[:32]


def _digest(pairs: Pairs, row: int) -> NDArray[np.int64]:
    try:
        content = pairs.read_image(row)
    except (PictureError, DataError) as error:
        content = f"can't be read: {error}".encode()
    return np.frombuffer(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest(), dtype=np.int64)
