"""Extraction: the projected features of an episode, by the whole model in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from protoclip.data.batches import Batch

from .heads import Heads

ToInputs = Callable[[Batch], tuple[Tensor, Tensor]]
"""A batch → pictures [B, 3, H, W] and tokens [B, T] on the device."""


@dataclass(frozen=True)
class Shard:
    """What this rank has of an episode's projected features.

    Attributes:
        image, text: h_image and h_text, [n, P] each, unit norm.
        positions: [n] int64, their positions in the episode; each position is on exactly one rank.
        pairs: [m] int64, the pair at every position, on all ranks, −1 for none; None: those of the episode.
        is_new: [n] bool, rows that were projected since prototypes were made last; None: all of them.
    """

    image: Tensor
    text: Tensor
    positions: Tensor
    pairs: Tensor | None = None
    is_new: Tensor | None = None


@torch.inference_mode()
def extract(towers: nn.Module, heads: Heads, batches: Iterable[Batch], pipeline: ToInputs) -> Shard:
    """Projects batches in eval mode; the shard lacks the pairs that the batches leave out, and may be empty.

    Does not change BatchNorm's statistics; the caller must enter its stage again afterwards.

    Args:
        towers: pictures and tokens → both towers' outputs, in the precision of training.
    """
    towers.eval()
    heads.eval()
    nothing = heads.log_scale.new_zeros(0, heads.projection_dim)
    image: list[Tensor] = [nothing]
    text: list[Tensor] = [nothing]
    positions: list[Tensor] = [torch.zeros(0, dtype=torch.int64, device=nothing.device)]
    for batch in batches:
        if not len(batch.positions):
            continue  # towers can't be asked about no picture
        images, tokens = pipeline(batch)
        image_features, text_features = towers(images, tokens)
        image.append(heads.image(image_features))
        text.append(heads.text(text_features))
        positions.append(batch.positions.to(images.device))
    # Cloned: inference tensors can't be used in autograd.
    return Shard(*(torch.cat(parts).clone() for parts in (image, text, positions)))
