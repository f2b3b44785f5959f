"""PALM's losses, gradients and moved prototypes, in float64, on as many ranks as a launcher started.

    WORLD_SIZE=2 RANK=0 … python exact_palm.py OUT [BROKEN …]

Network and parts of a batch are those of exact.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from exact import BATCH, BATCH_NORM, SmallClip, own
from safetensors.torch import save_file
from torch import Tensor

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.distributed import collectives
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.objective import Rows
from protoclip.prototypes.palm import random_prototypes
from protoclip.training.optim import Schedule, Stage, make_optimizer, named_parameters
from protoclip.training.palm_step import PalmStep

CLASSES, PER_CLASS = 3, 4


def settings(contrast: str, accumulation: int) -> RunConfig:
    return build_config(
        {
            "data": {"path": "none"},
            "loss": {"objective": "palm"},
            "palm": {"contrast": contrast, "per_class": PER_CLASS, "kept": 3, "momentum": 0.5},
            "train": {"batch_size": BATCH, "steps": 1, "accumulation": accumulation},
        },
        "test",
    )


def run_case(config: RunConfig, has_batch_norm: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    module, heads = SmallClip(has_batch_norm), Heads(6, 5, hidden_dim=9)
    heads.add_prototypes(random_prototypes(CLASSES * PER_CLASS, 5, seed=2))
    schedule = Schedule(1, 1, 0, 0, has_prototype_loss=False, is_palm=True)
    step = PalmStep(module, heads, make_optimizer(module, heads, config.optim), schedule, config)
    step.enter(Stage.PALM)
    draw = torch.Generator().manual_seed(1)
    images, tokens = torch.randn(BATCH, 3, 2, 2, generator=draw), torch.zeros(BATCH, 5, dtype=torch.int64)
    classes = torch.randint(-1, CLASSES, (BATCH,), generator=draw)
    rows = Rows(own(torch.arange(BATCH)), None, own(classes))
    losses = step.backward(own(images), own(tokens), rows, None)
    step._after_update()
    scalars = {"loss": losses.total.detach(), **losses.extra, **losses.measured}
    found = {name: collectives.mean(value).reshape(1).clone() for name, value in scalars.items()}
    for name, parameter in named_parameters(module, heads):
        if parameter.grad is not None:
            found[f"gradient of {name}"] = parameter.grad.clone()
    for name, buffer in [*module.named_buffers(), *heads.named_buffers(prefix="heads")]:
        found[f"statistic {name}"] = buffer.double().reshape(-1).clone()
    return found


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    with collectives.ranks():
        for contrast in ("off", "features", "prototypes"):
            for name, accumulation in (("whole", 1), ("in parts", 3), (BATCH_NORM, 1)):
                case = run_case(settings(contrast, accumulation), name == BATCH_NORM)
                results |= {f"{contrast} {name}: {key}": value.contiguous() for key, value in case.items()}
        differing = [name for name, value in results.items() if (collectives.gather_rows(value) != value).any()]
        if differing:
            raise SystemExit(f"the ranks differ in {differing}")
        if collectives.is_first():
            save_file(results, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
