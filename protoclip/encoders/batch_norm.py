"""BatchNorm of the towers: over the rows of all ranks, or of each rank by itself."""

from __future__ import annotations

import logging
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from protoclip.contract.errors import ModelError
from protoclip.distributed import collectives
from protoclip.distributed.batch_norm import SyncedBatchNorm

from .torchvision_workaround import make_torchvision_importable

logger = logging.getLogger(__name__)


class SyncedBatchNormAct(SyncedBatchNorm):
    """timm's BatchNormAct2d: drop and activation after the normalisation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.drop(super().forward(features))))


def prepare_batch_norm(model: nn.Module, *, synchronised: bool) -> None:
    """Synchronises a model's BatchNorm over all ranks, or leaves it and, on several ranks, warns once.

    Raises:
        ModelError: a kind of BatchNorm that can't be synchronised.
    """
    if synchronised:
        synchronise(model)
        return
    has_own = any(isinstance(part, _BatchNorm) for part in model.modules())
    if has_own and collectives.world_size() > 1 and collectives.is_first():
        logger.warning(
            "the towers have BatchNorm, which each of the %d ranks takes over its own rows: the run differs from "
            "one on another number of ranks; train.sync_batch_norm=true takes it over all rows",
            collectives.world_size(),
        )


def synchronise(model: nn.Module) -> None:
    """Replaces BatchNorm layers by synchronised ones, in place; parameters, buffers and their names stay.

    Frozen BatchNorm is left as it is.

    Raises:
        ModelError: a layer is of another class than torch's BatchNorm1d, BatchNorm2d or timm's BatchNormAct2d.
    """
    make_torchvision_importable()
    from timm.layers.norm_act import BatchNormAct2d

    kinds = {
        nn.BatchNorm1d: SyncedBatchNorm,
        nn.BatchNorm2d: SyncedBatchNorm,
        BatchNormAct2d: SyncedBatchNormAct,
    }
    for name, layer in model.named_modules():
        if not isinstance(layer, _BatchNorm) or isinstance(layer, SyncedBatchNorm):
            continue
        kind = kinds.get(type(layer))
        if kind is None:
            raise ModelError(
                f"train.sync_batch_norm: {name} is a {type(layer).__name__}, which can't be synchronised: "
                "set it to false, or take a model without"
            )
        # Only the object's class is changed: hooks, references and the names in the state dict stay.
        layer.__class__ = kind
