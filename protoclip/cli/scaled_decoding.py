"""`protoclip repository --scaled-decoding`: embeddings are compared before pictures are decoded smaller."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from protoclip.contract.errors import VerdictError

from .app import console
from .reading import DEFAULT_ENCODING, ReadingOptions


def measured(artifact: Path, engine: str | None, pictures: str) -> str:
    """What was measured of the pictures that are named, as a repository keeps it.

    Raises:
        VerdictError: the embeddings differ by more than the gate allows.
        DataError: too few pictures would be decoded smaller.
        ModelError: no artifact, or none that runs here.
    """
    from export.scaled_decoding import judge_scaled_decoding

    with console.status("comparing embeddings"):
        verdict = judge_scaled_decoding(artifact, engine, _files(pictures))
    if verdict.missed:
        raise VerdictError(
            f"{artifact}: pictures decoded scaled fail the gate of 8-bit engines ({'; '.join(verdict.missed)}): "
            "leave --scaled-decoding out"
        )
    found = verdict.found
    console.print(
        f"scaled decoding passed on {found.num_inputs} pictures: smallest centred cosine "
        f"{found.min_centred_cosine:.5f}, error to neighbour {found.error_to_neighbour:.2f}",
        highlight=False,
    )
    return verdict.to_text()


def _files(pictures: str) -> Iterator[bytes]:
    """Files that can be read; the others are no matter of a comparison."""
    from protoclip.client.errors import BadItem
    from protoclip.client.inputs import image_bytes

    from .client.pictures import picture_inputs
    from .client.standard_input import StandardInput

    reading = ReadingOptions(None, None, None, DEFAULT_ENCODING, None, None, math.inf)
    for item in picture_inputs([pictures], reading, StandardInput()).opened():
        try:
            yield image_bytes(item)
        except BadItem:
            continue
