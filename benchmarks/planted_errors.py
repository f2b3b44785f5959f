"""Plants mistakes into exports of a trained model and says which gate stops which.

    python benchmarks/planted_errors.py runs/demo --out benchmarks/planted_errors_demo_202611.md

Every mistake is a graph, a manifest or a runtime of its own, compared with the right model on the 256 pictures and
texts that `protoclip export` takes; the table names the checks that stop it, and one that is missed makes the exit
code 1. `planted_precisions.py` goes on from there.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from planted import Outcome, failed_names, outcome_of, run, words
from torch import nn

from export.engines import open_engine, write_engines
from export.graphs.runtime import Encode
from export.graphs.source import load_source
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.reference import Reference, torch_reference
from export.parity.report import EngineReport
from export.parity.verify import verify_engine
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.manifest import Precision
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import silent
from protoclip.encoders.model import ClipModel

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
OTHER_MEAN = OTHER_STD = (0.5, 0.5, 0.5)
Wrap = Callable[[Encode], Encode]


@dataclass(frozen=True)
class Plant:
    """One mistake: in the weights or modules, the description, the manifest's pixels, or what a runtime gives.

    Attributes:
        found_by: the checks of the float32 graph that have to find it; none: it is the right export.
        everywhere: whether those of every other precision have to as well, in the same runtime.
    """

    name: str
    found_by: frozenset[str] = frozenset()
    change: Callable[[nn.Module], None] = lambda module: None
    describe: Callable[[ClipModel], ClipModel] = lambda clip: clip
    pixels: Callable[[PixelSpec], PixelSpec] = lambda spec: spec
    early_pooling: bool = False
    wrap: Wrap | None = None
    everywhere: bool = False


def wide_epsilon(module: nn.Module) -> None:
    """Every LayerNorm adds 1e-2 to the variance in place of 1e-5."""
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.eps = 1e-2


def other_gelu(module: nn.Module) -> None:
    """GELU where the model has QuickGELU, and the reverse."""
    from open_clip.transformer import QuickGELU

    for block in module.modules():
        for name, child in list(block.named_children()):
            if isinstance(child, QuickGELU):
                setattr(block, name, nn.GELU())
            elif isinstance(child, nn.GELU):
                setattr(block, name, QuickGELU())


def plus_one(which: str) -> Callable[[nn.Module], None]:
    """Adds 1 to the first number of the first matrix whose name begins with `which`."""

    def change(module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if name.startswith(which) and name.endswith("weight") and parameter.ndim >= 2:
                parameter.data.view(-1)[0] += 1
                return
        raise LookupError(which)

    return change


def swap_channels(module: nn.Module) -> None:
    """The first convolution reads blue where red is."""
    first = next(layer for layer in module.visual.modules() if isinstance(layer, nn.Conv2d))  # type: ignore[union-attr]
    first.weight.data = first.weight.data.flip(1)


def louder(encode: Encode) -> Encode:
    """Embeddings of the norm 1.15."""
    return lambda batch: encode(batch) * np.float32(1.15)


def leaking(encode: Encode) -> Encode:
    """Two percent of the row before, and unit norm."""

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        rows = encode(batch)
        mixed = 0.98 * rows + 0.02 * np.roll(rows, 1, axis=0)
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    return run


def leaking_from_the_first(encode: Encode) -> Encode:
    """Two percent of the first row in every row, as where its scale is taken for all; and unit norm."""

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        rows = encode(batch)
        mixed = 0.98 * rows + 0.02 * rows[:1]
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    return run


def wrong_from(size: int) -> Wrap:
    """Rows swapped in batches of `size` and more, as by a kernel that was never run at that size."""
    return lambda encode: lambda batch: encode(batch)[::-1] if len(batch) >= size else encode(batch)


IMAGES, TEXTS = frozenset({"image, batch 8"}), frozenset({"text, batch 8"})


def _of_both(check: str) -> frozenset[str]:
    return frozenset({f"image, {check}", f"text, {check}"})


PLANTS = (
    Plant("none (the right export)"),
    Plant("LayerNorm epsilon 1e-2 for 1e-5", TEXTS, wide_epsilon),
    Plant("QuickGELU for GELU, or the reverse", TEXTS, other_gelu),
    Plant("one image weight + 1", IMAGES, plus_one("visual.layer2")),
    Plant("one text weight + 1", TEXTS, plus_one("transformer.resblocks.0.mlp")),
    Plant("text pooled one token early", TEXTS, early_pooling=True),
    Plant(
        "another model's mean and std", IMAGES, describe=lambda clip: replace(clip, mean=OTHER_MEAN, std=OTHER_STD)
    ),
    Plant("BGR for RGB", IMAGES, swap_channels),
    Plant(
        "bilinear for bicubic",
        frozenset({"image, from files"}),
        pixels=lambda spec: replace(spec, interpolation="bilinear"),
        everywhere=True,
    ),
    Plant(
        "squashed for cropped",
        frozenset({"image, from files"}),
        pixels=lambda spec: replace(spec, resize="squash"),
        everywhere=True,
    ),
    Plant("embeddings × 1.15", _of_both("unit norm"), wrap=louder, everywhere=True),
    Plant("2 % of the row before in every row", _of_both("rows beside others"), wrap=leaking, everywhere=True),
    Plant(
        "2 % of the first row in every row",
        _of_both("rows beside others"),
        wrap=leaking_from_the_first,
        everywhere=True,
    ),
    Plant("rows swapped in batches of 33 and more", _of_both("rows alone"), wrap=wrong_from(33), everywhere=True),
)


def study(source: Path, samples: int) -> tuple[str, list[Outcome]]:
    """The table of all plants, exported once and judged by every precision's checks, and what became of them."""
    clip = load_source(source).clip
    reference = torch_reference(clip, PairsOptions(count=samples).samples(), silent)
    rows = [(plant, judge(clip, reference, plant)) for plant in PLANTS]
    return table(source, samples, rows), [judged(plant, reports) for plant, reports in rows]


def judged(plant: Plant, reports: dict[str, EngineReport]) -> Outcome:
    """Whether the checks that have to find it did; of the right export, whether no precision's failed."""
    failed = {precision: failed_names(report.checks) for precision, report in reports.items()}
    if plant.everywhere:
        return outcome_of(plant.name, plant.found_by, set.intersection(*failed.values()))
    return outcome_of(
        plant.name, plant.found_by, failed["fp32"] if plant.found_by else set.union(*failed.values())
    )


def judge(clip: ClipModel, reference: Reference, plant: Plant) -> dict[str, EngineReport]:
    """The float32 graph of a wrong model, by the checks of each of `PRECISIONS`."""
    module = deepcopy(clip.module)
    plant.change(module)
    wrong = plant.describe(replace(clip, module=module))
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple("open_clip.model", **_pooling(plant)):
        write_engines(
            wrong,
            Path(folder),
            ("fp32",),
            None,
            opset=DEFAULT_OPSET,
            metadata={},
            max_embedded_bytes=MAX_EMBEDDED_BYTES,
            progress=silent,
        )
        opened = open_engine(Path(folder), "fp32")
        wrap = plant.wrap or (lambda encode: encode)
        encoders = replace(opened, image=_remembered(wrap(opened.image)), text=_remembered(wrap(opened.text)))
        return {
            precision: verify_engine(reference, encoders, "planted", precision, pixels=plant.pixels(clip.pixels))
            for precision in PRECISIONS
        }


def _remembered(encode: Encode) -> Encode:
    """Runs each batch once, however many gates ask for it."""
    found: dict[bytes, NDArray[np.float32]] = {}

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        key = hashlib.sha256(np.ascontiguousarray(batch).tobytes()).digest() + len(batch).to_bytes(4, "little")
        if key not in found:
            found[key] = encode(batch)
        return found[key]

    return run


def _pooling(plant: Plant) -> dict[str, Any]:
    import open_clip.model

    def early(x: torch.Tensor, text: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return x[torch.arange(x.shape[0]), text.argmax(dim=-1) - 1]

    return {"text_global_pool": early if plant.early_pooling else open_clip.model.text_global_pool}


def table(source: Path, samples: int, rows: list[tuple[Plant, dict[str, EngineReport]]]) -> str:
    """The result as Markdown."""
    lines = [
        "# Mistakes planted into an export",
        "",
        f"`python benchmarks/planted_errors.py {source} --samples {samples}`: the demo's trained model, {samples} "
        "pictures and texts of the bundled corpus and the hostile inputs, batches of 1, 7, 8 and 64. Every "
        "mistake is exported anew, written into the manifest's pixels, or made by what runs the graph, and "
        "compared with the right model in torch. The last three columns name the checks of a precision that fail "
        "by themselves; the float32 graph is always verified, and every other precision is made from it.",
        "",
        "| mistake | outcome | worst centred cosine | fp32 | fp16, bf16 | int8, fp8 |",
        "|" + "---|" * 6,
    ]
    for plant, reports in rows:
        comparisons = [found for _, found in reports["fp32"].comparisons()]
        worst = min(found.min_centred_cosine or -1.0 for found in comparisons)
        stops = [words(failed_names(reports[precision].checks)) for precision in PRECISIONS]
        lines.append(f"| {plant.name} | {judged(plant, reports).word} | {worst:.6f} | {' | '.join(stops)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(__doc__, study, samples=256)
