"""What prototypes add to a step: steps of CLIP and of streamed ProtoCLIP, one after the other.

    make time-per-pair

`time_per_pair.py` times whole runs, in which five percent drown in what else a machine does. Here one model takes
a step of each kind in turn on the same batch, with the paper's 20,000 prototypes of 128 dimensions a side; then
its encoders alone, without gradient, which is what extraction adds. Reading and K-means are not in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.files import write_text
from protoclip.encoders.model import create_module
from protoclip.encoders.registry import model_config
from protoclip.prototypes.features import Shard
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.objective import Rows
from protoclip.prototypes.targets import Clusters, EpisodeTargets, make_targets
from protoclip.training.optim import Schedule, Stage, make_optimizer
from protoclip.training.step import TrainStep

PROTOTYPES, WIDTH, EPISODE = 20_000, 128, 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    module = create_module(arguments.model).to(arguments.device)
    works = steps_of(module, arguments.model, arguments.batch_size, arguments.device)
    text = report(arguments.model, arguments.batch_size, alternate(works, arguments.rounds, arguments.batch_size))
    print(text)
    if arguments.result is not None:
        write_text(arguments.result, text)


def steps_of(module: nn.Module, name: str, batch_size: int, device: str) -> dict[str, Callable[[], object]]:
    config = settings(name, batch_size)
    heads = Heads(int(model_config(name)["embed_dim"]), WIDTH).to(device)
    step = TrainStep(module, heads, make_optimizer(module, heads, config.optim), Schedule(10**6, 1, 0, 0), config)
    size = module.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    images = torch.randn(batch_size, 3, height, width, device=device)
    tokens = torch.randint(1, 400, (batch_size, module.context_length), device=device)
    targets, rows = drawn_targets(device), Rows(torch.arange(batch_size, device=device), None)

    def take(stage: Stage) -> None:
        step.enter(stage)
        losses, _ = step(0, images, tokens, rows, targets if stage is Stage.MAIN else None)
        losses.total.item()

    def project() -> None:
        module.eval()
        with torch.inference_mode():
            module.encode_image(images)
            module.encode_text(tokens).sum().item()

    return {"CLIP": lambda: take(Stage.CLIP), "stream": lambda: take(Stage.MAIN), "encoders alone": project}


def settings(name: str, batch_size: int) -> RunConfig:
    train = {"batch_size": batch_size, "steps": 10**6}
    return build_config(
        {"data": {"path": "-"}, "model": {"name": name}, "prototypes": {"source": "stream"}, "train": train},
        "here",
    )


def drawn_targets(device: str) -> EpisodeTargets:
    def rows(count: int) -> Tensor:
        return normalize(torch.randn(count, WIDTH, device=device), dim=1)

    image, text = (
        Clusters(rows(PROTOTYPES), torch.randint(PROTOTYPES, (EPISODE,), device=device)) for _ in range(2)
    )
    shard = Shard(rows(EPISODE), rows(EPISODE), torch.arange(EPISODE, device=device))
    return make_targets(0, shard, (image, text), None, back_translation=True)


def alternate(works: dict[str, Callable[[], object]], rounds: int, batch_size: int) -> dict[str, list[float]]:
    """Milliseconds per pair of each work in each round, after two rounds that are not counted."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 2):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number >= 2:
                found[name].append(1000 * (time.perf_counter() - started) / batch_size)
    return found


def report(model: str, batch_size: int, found: dict[str, list[float]]) -> str:
    lines = [
        f"# What prototypes add to a step of {model}",
        f"Batch {batch_size}, {PROTOTYPES:,} prototypes of {WIDTH} dimensions a side, "
        f"{len(found['CLIP'])} rounds, {torch.get_num_threads()} of {os.cpu_count()} cores, "
        f"torch {version('torch')}, Python {platform.python_version()}, {time.strftime('%B %Y')}.",
        "",
        "| what | ms per pair, median | least to most | by CLIP, median of rounds |",
        "|---|---|---|---|",
    ]
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found["CLIP"], strict=True))
        lines.append(
            f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} to {max(times):.1f} | {ratio:.3f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
