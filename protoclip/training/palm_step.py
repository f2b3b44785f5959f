"""One optimiser step of PALM: pictures of classes towards mixtures of prototypes.

`b` pictures on this rank, two views of each in a row, `P` projection, `K` = C · M prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from protoclip.distributed import collectives
from protoclip.encoders.precision import computing_in, normalised, whole_precision
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.objective import Rows
from protoclip.prototypes.palm import (
    assigned,
    contrast_loss,
    contrast_push,
    mixture_losses,
    moved,
    through_means,
    weighted_means,
)
from protoclip.prototypes.targets import EpisodeTargets

from .optim import Stage
from .step import StepLosses, TrainStep
from .towers import Projected


class PictureTower(nn.Module):
    """Pictures [b, 3, H, W] → the image tower's output [b, D], and [b, 0] in place of the texts'."""

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model, self._precision = model, precision

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        with computing_in(self._precision, images.device):
            image = self.model.encode_image(images)  # type: ignore[operator]
        image = whole_precision(image)
        return image, image.new_zeros(len(images), 0)


class PictureProjection(nn.Module):
    """Towers' outputs → embeddings and their projections.

    The head takes embeddings of unit norm, as they are served: so a detector of its prototypes can follow a served
    model.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, image: Tensor, text: Tensor, stage: Stage) -> Projected:
        z_image, scale = normalised(image), self.heads.log_scale.exp()
        return Projected(z_image, text, self.heads.image(z_image), None, scale, scale, None)


class PalmStep(TrainStep):
    """Forward, backward, update of the parameters, and then of the prototypes, which `Heads` holds."""

    _means: Tensor

    def _new_towers(self) -> nn.Module:
        return PictureTower(self._module, self._config.train.precision)

    def _new_projection(self) -> nn.Module:
        return PictureProjection(self._heads)

    def _losses(
        self, projected: Projected, rows: Rows, targets: EpisodeTargets | None, sizes: Sequence[int]
    ) -> StepLosses:
        """All ranks' rows are assigned together, on every rank alike; each rank has the losses of its own."""
        config, features, classes = self._config.palm, projected.h_image, rows.classes
        if features is None or classes is None:
            raise AssertionError("PALM needs projections and classes")
        # A rank without a row gives none of these either.
        classes = classes[: len(features)]
        all_features = collectives.gather_with_gradient(features, sizes)
        gathered = collectives.gather_with_gradient(classes.to(features.dtype).unsqueeze(1), sizes)
        all_classes = gathered.squeeze(1).round().long()
        with torch.no_grad():
            weights = assigned(all_features, all_classes, self._prototypes, config.per_class, config.kept)
        first = sum(sizes[: collectives.rank()])
        own = slice(first, first + len(features))
        mixture = self._mean_of_known(
            mixture_losses(features, weights[own], self._prototypes, config.temperature), classes, all_classes
        )
        means = weighted_means(all_features, weights)
        self._means = means.detach()
        contrast = contrast_loss(
            through_means(self._prototypes, means) if config.contrast == "features" else self._prototypes,
            config.per_class,
            config.contrast_temperature,
        )
        total = mixture + config.contrast_weight * contrast if config.contrast == "features" else mixture
        extra = self._extra(projected, rows, len(features) * len(sizes) / sum(sizes))
        for value in extra.values():
            total = total + value
        logged = {"mixture": mixture, "contrast": contrast, **extra}
        hits = (features.detach() @ self._prototypes.T).argmax(dim=1) // config.per_class == classes
        return StepLosses(
            total,
            clip=None,
            proto=None,
            external=None,
            h_image=None,
            h_text=None,
            extra={name: value.detach() for name, value in logged.items()},
            measured={"class_accuracy": self._mean_of_known(hits.to(features.dtype), classes, all_classes)},
        )

    @torch.no_grad()
    def _after_update(self) -> None:
        config, push = self._config.palm, None
        if config.contrast == "prototypes":
            push = contrast_push(self._prototypes, config.per_class, config.contrast_temperature)
            push = config.contrast_weight * push
        self._prototypes.copy_(moved(self._prototypes, self._means, self._momentum, push))

    @property
    def _prototypes(self) -> Tensor:
        return self._heads.prototypes  # type: ignore[return-value]

    @property
    def _momentum(self) -> float:
        chosen = self._config.palm.momentum
        return max(0.0, min(0.999, 1 - 20 / self._schedule.num_steps)) if chosen is None else chosen

    @staticmethod
    def _mean_of_known(values: Tensor, classes: Tensor, all_classes: Tensor) -> Tensor:
        """This rank's part of the mean over all ranks' rows that have a class; 0 without one."""
        known = torch.where(classes >= 0, values, torch.zeros_like(values)).sum()
        return known * collectives.world_size() / (all_classes >= 0).sum().clamp(min=1)
