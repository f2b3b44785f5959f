"""A head on embeddings that stand still, trained by PALM: for a detector of any model, without its pictures.

`N` pictures, `D` embedding, `P` projection, `C` classes. It is the trainer's own step, on a tower that hands on
what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import DataError
from protoclip.data.random_numbers import generator, torch_seed
from protoclip.detection.detector import Detector
from protoclip.detection.fitting import numbered_classes
from protoclip.detection.fitting_trained import fit_trained
from protoclip.detection.held_out import part
from protoclip.detection.mixture import Reading
from protoclip.detection.threshold import find_threshold
from protoclip.detection.trained import TrainedMixture
from protoclip.detection.vectors import checked
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.objective import Rows
from protoclip.prototypes.palm import random_prototypes
from protoclip.runs.palm import mixture_of

from .optim import Schedule, Stage, make_optimizer
from .palm_step import PalmStep

_FEWEST_STEPS, _MOST_STEPS, _PASSES, _BATCH = 500, 5_000, 30, 256


class _Embeddings(nn.Module):
    """In place of a model: `encode_image` gives back the embeddings [b, D] that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Identity()
        self.logit_scale = nn.Parameter(torch.zeros(()), requires_grad=False)

    def encode_image(self, embeddings: Tensor) -> Tensor:
        return embeddings


def fit_palm_head(
    embeddings: ArrayLike,
    labels: Sequence[str],
    *,
    reading: Reading = "nearest",
    accept: float = 0.95,
    per_class: int = 6,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    fingerprint: str = "",
    model: str = "",
) -> Detector:
    """A detector of kind "palm" or "palm_posterior"; a fifth of each class is held out for the threshold.

    Args:
        embeddings: `[N, D]` of any norm.
        labels: `[N]`, the class of each.
        reading: of the mixture, as there.
        accept: as of `fit_detector`, like what follows.

    Raises:
        ConfigError: a number out of range.
        DataError: as `fit_detector`, and fewer than two classes.
    """
    vectors, (names, numbers) = checked(embeddings), numbered_classes(labels, len(np.atleast_2d(embeddings)))
    _check_classes(len(names))
    learned, held_out = part(numbers, seed, groups)
    # What would be wrong with the threshold is said before the training.
    find_threshold(np.zeros(int(held_out.sum())), accept)
    mixture = train_head(
        vectors[learned], numbers[learned], len(names), {"per_class": per_class}, seed=seed, reading=reading
    )
    return fit_trained(
        mixture,
        vectors[held_out],
        classes=names,
        accept=accept,
        num_fit=int(learned.sum()),
        fingerprint=fingerprint,
        model=model,
    )


def train_head(
    vectors: NDArray[np.float32],
    numbers: NDArray[np.int64],
    num_classes: int,
    palm: dict[str, Any],
    *,
    steps: int | None = None,
    seed: int = 0,
    reading: Reading = "nearest",
) -> TrainedMixture:
    """Trains head and prototypes on this process's CPU; the same seed and data give the same mixture.

    Args:
        vectors: `[N, D]` of unit norm.
        numbers: `[N]`, the class of each, 0 to C - 1.
        palm: settings of the section `palm`.
        steps: of 256 pictures, or of all where there are fewer; None: 30 passes, at least 500 and at most 5,000.

    Raises:
        ConfigError: a setting is out of range.
        DataError: one class only.
    """
    _check_classes(num_classes)
    size = min(_BATCH, len(vectors))
    steps = min(max(_PASSES * len(vectors) // size, _FEWEST_STEPS), _MOST_STEPS) if steps is None else steps
    config = _config(palm, steps, size, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "weights"))
        heads = Heads(vectors.shape[1], projection_dim=64, hidden_dim=256)
    draw = torch_seed(seed, "palm prototypes")
    heads.add_prototypes(random_prototypes(num_classes * config.palm.per_class, heads.projection_dim, draw))
    module = _Embeddings()
    schedule = Schedule(steps, steps, 0, 0, has_prototype_loss=False, is_palm=True)
    step = PalmStep(module, heads, make_optimizer(module, heads, config.optim), schedule, config)
    step.enter(Stage.PALM)
    order = generator(seed, "order of embeddings")
    for number in range(steps):
        rows = order.permutation(len(vectors))[:size]
        inputs, classes = torch.from_numpy(vectors[rows]), torch.from_numpy(numbers[rows])
        step(number, inputs, classes.new_zeros(size, 0), Rows(classes, None, classes), None)
    state = {name: tensor.detach().numpy() for name, tensor in heads.state_dict().items()}
    return mixture_of(state, num_classes, reading)


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise DataError("palm keeps classes apart, and there is one only: give two or more, or use mixture")


def _config(palm: dict[str, Any], steps: int, size: int, seed: int) -> RunConfig:
    return build_config(
        {
            "data": {"path": ["embeddings"]},
            "loss": {"objective": "palm"},
            "palm": palm,
            "optim": {"learning_rate": 1e-3, "weight_decay": 0.1, "warmup_steps": max(1, steps // 10)},
            "train": {"steps": steps, "batch_size": size, "seed": seed, "device": "cpu"},
        },
        "kind palm",
    )
