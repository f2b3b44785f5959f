"""The latest projection at each position, for prototypes that are made anew every few steps.

`m` positions, `b` rows of a batch on this rank, `P` projection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protoclip.distributed import collectives

from .features import Shard

IMAGE, TEXT, PAIRS, STEPS = "window.image", "window.text", "window.pairs", "window.steps"
_NONE = -1


class Window:
    """h_image and h_text of the last m pairs that were trained on, by position.

    A position holds what was projected there last: in the episode under way if it came already, else in the one
    before. Each rank holds the rows that it computed; of two ranks' rows at one position the later one counts.

    Args:
        size: m.
        dim: P.
    """

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        self._image, self._text = torch.zeros(2, size, dim, device=device)
        self._pairs, self._steps = torch.full((2, size), _NONE, dtype=torch.int64, device=device)

    def keep(self, image: Tensor, text: Tensor, positions: Tensor, pairs: Tensor, step: int) -> None:
        """Puts projections [b, P], unit norm, of the `pairs` [b] (places in the data) at `positions` [b].

        Args:
            step: larger than at any call before, except by the other ranks for other positions.
        """
        self._image[positions], self._text[positions] = image.float(), text.float()
        self._pairs[positions], self._steps[positions] = pairs, step

    def shard(self, refresh_steps: int) -> Shard:
        """This rank's shard of the positions that hold something, with the pairs [m] of all. All ranks call it.

        Equally many consecutive positions are each rank's: in the order of ranks they are the same on any number.
        Rows of the last `refresh_steps` steps are new.
        """
        found = self.tensors()
        filled = found[STEPS] >= 0
        own = collectives.own_run(torch.arange(len(filled), device=filled.device))
        own = own[filled[own]]
        is_new = found[STEPS][own] > found[STEPS].max() - refresh_steps
        return Shard(found[IMAGE][own], found[TEXT][own], own, found[PAIRS], is_new)

    def tensors(self) -> dict[str, Tensor]:
        """The rows of all ranks: features [m, P], pairs and steps [m], −1 where none. All ranks call it."""
        latest = collectives.all_reduce_max(self._steps.clone())
        own = (self._steps == latest) & (latest >= 0)
        found = {
            name: collectives.all_reduce_sum(torch.where(own[:, None], side, 0))
            for name, side in ((IMAGE, self._image), (TEXT, self._text))
        }
        # Shifted by one, so that ranks without the row add nothing.
        pairs = collectives.all_reduce_sum(torch.where(own, self._pairs - _NONE, 0)) + _NONE
        return {**found, PAIRS: pairs, STEPS: latest}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Loads what `tensors` returned, on any number of ranks: the first rank holds all rows."""
        self._steps.fill_(_NONE)
        if collectives.is_first():
            self._image.copy_(tensors[IMAGE]), self._text.copy_(tensors[TEXT])
            self._pairs.copy_(tensors[PAIRS]), self._steps.copy_(tensors[STEPS])
