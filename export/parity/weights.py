"""Whether every weight of a model is a number: one that no sample reads would be served all the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from protoclip.encoders.model import ClipModel

from .checks import Check, bounded

WEIGHTS = "weights"
_STATISTICS = ("running_mean", "running_var")
_DECODER = "text_decoder."
"""CoCa's, which writes captions and reaches neither encoder; open_clip leaves one of its tensors as memory was."""


def check_weights(clip: ClipModel) -> Check:
    """The check that no parameter of the encoders, and no statistic of a BatchNorm, is NaN or infinite."""
    named = ((name, values) for name, values in _weights(clip.module) if not name.startswith(_DECODER))
    wrong = [name for name, values in named if not torch.isfinite(values).all()]
    more = f", and {len(wrong) - 1} more" if wrong[1:] else ""
    return bounded(
        WEIGHTS,
        not wrong,
        f"{wrong[0] if wrong else ''}{more}: NaN or infinity: take an earlier checkpoint, or other weights",
        f"{len(wrong)} of the model's tensors are not finite",
        "0",
    )


def _weights(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from ((name, values) for name, values in module.named_buffers() if name.endswith(_STATISTICS))
