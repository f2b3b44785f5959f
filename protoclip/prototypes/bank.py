"""The bank of streaming prototypes: the projected features that training computes anyway.

`m` pairs in an episode, `b` rows of a batch on this rank, `P` projection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protoclip.distributed import collectives

from .features import Shard

IMAGE, TEXT, COUNT = "bank.image", "bank.text", "bank.count"


class Bank:
    """h_image and h_text of an episode by position; each rank holds the rows that it computed.

    The rows of pairs that were left out are zero, which no projection is.

    Args:
        size: m.
        dim: P.
    """

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        self._image, self._text = torch.zeros(2, size, dim, device=device)
        self._count = 0

    def clear(self) -> None:
        """Forgets all rows: the next episode's positions are others."""
        self._image.zero_(), self._text.zero_()
        self._count = 0

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        """Puts projections [b, P], unit norm, at `positions` [b]; no other rank puts any there."""
        self._image[positions], self._text[positions] = image.float(), text.float()
        self._count += len(positions)

    def leave_out(self, positions: Tensor) -> None:
        """Says that these [n] get no projections; no other rank puts any there."""
        self._count += len(positions)

    def shard(self) -> Shard:
        """This rank's shard: of equally many consecutive positions on each rank those with features.

        The positions are in the order of ranks. All ranks call it.

        Raises:
            AssertionError: a position was neither kept nor left out.
        """
        tensors = self.tensors()
        count = int(tensors[COUNT]) if tensors else 0
        if count != len(self._image):
            raise AssertionError(f"the bank holds {count} of {len(self._image)} positions")
        own = collectives.own_run(torch.arange(len(self._image), device=self._image.device))
        own = own[tensors[IMAGE][own].any(dim=1)]
        return Shard(tensors[IMAGE][own], tensors[TEXT][own], own)

    def tensors(self) -> dict[str, Tensor]:
        """The rows of all ranks [m, P] and how many were kept or left out; empty where none. All ranks call it."""
        count = collectives.all_reduce_sum(torch.tensor(self._count, device=self._image.device))
        if not count:
            return {}
        rows = {IMAGE: self._image, TEXT: self._text}
        return {COUNT: count, **{name: collectives.all_reduce_sum(side.clone()) for name, side in rows.items()}}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Loads what `tensors` returned, on any number of ranks: the first rank holds all rows."""
        self.clear()
        if collectives.is_first():
            self._image.copy_(tensors[IMAGE])
            self._text.copy_(tensors[TEXT])
            self._count = int(tensors[COUNT])
