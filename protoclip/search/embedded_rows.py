"""Which rows of a batch of a client are vectors that can be stored."""

from __future__ import annotations

import numpy as np

from protoclip.client import Embeddings


def bad_rows(part: Embeddings) -> dict[int, str]:
    """Why not, by row; of the others the vectors are no zeros."""
    reasons = {error.position - part.start: error.reason for error in part.errors}
    for row in np.flatnonzero(~np.asarray(part.vectors).any(axis=1)):
        reasons.setdefault(int(row), "the model gave a vector of zeros")
    return reasons
