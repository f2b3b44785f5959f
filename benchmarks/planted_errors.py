"""Plants mistakes into exports of a trained model and says which gate stops which.

    python benchmarks/planted_errors.py runs/demo --out benchmarks/planted_errors_demo_202611.md

Every mistake is a graph of its own, or a manifest of its own, compared with the right model on the 256
pictures and texts that `protoclip export` takes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from export.engines import open_engine, write_engines
from export.graphs.source import load_source
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.compare import Comparison
from export.parity.gates import gate_of, missed_thresholds
from export.parity.reference import Reference, torch_reference
from export.parity.verify import verify_engine
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.files import write_text
from protoclip.contract.manifest import Precision
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import silent
from protoclip.encoders.model import ClipModel

BATCH_SIZES = (8,)
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
OTHER_MEAN = OTHER_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Plant:
    """One mistake: in the weights or modules, in the model's description, or in the manifest's pixels."""

    name: str
    change: Callable[[nn.Module], None] = lambda module: None
    describe: Callable[[ClipModel], ClipModel] = lambda clip: clip
    pixels: Callable[[PixelSpec], PixelSpec] = lambda spec: spec
    early_pooling: bool = False


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


PLANTS = (
    Plant("none (the right export)"),
    Plant("LayerNorm epsilon 1e-2 for 1e-5", wide_epsilon),
    Plant("QuickGELU for GELU, or the reverse", other_gelu),
    Plant("one image weight + 1", plus_one("visual.layer2")),
    Plant("one text weight + 1", plus_one("transformer.resblocks.0.mlp")),
    Plant("text pooled one token early", early_pooling=True),
    Plant("another model's mean and std", describe=lambda clip: replace(clip, mean=OTHER_MEAN, std=OTHER_STD)),
    Plant("BGR for RGB", swap_channels),
    Plant("bilinear for bicubic", pixels=lambda spec: replace(spec, interpolation="bilinear")),
    Plant("squashed for cropped", pixels=lambda spec: replace(spec, resize="squash")),
)


def study(source: Path) -> list[tuple[Plant, dict[str, Comparison]]]:
    """Every plant with its comparisons; exports ten times, half a minute each or less."""
    clip = load_source(source).clip
    samples = PairsOptions().samples()
    reference = torch_reference(clip, samples, silent)
    return [(plant, _compare(clip, reference, plant)) for plant in PLANTS]


def _compare(clip: ClipModel, reference: Reference, plant: Plant) -> dict[str, Comparison]:
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
        found = verify_engine(
            reference,
            open_engine(Path(folder), "fp32"),
            "planted",
            "fp32",
            pixels=plant.pixels(clip.pixels),
            batch_sizes=BATCH_SIZES,
        )
    return dict(found.comparisons())


def _pooling(plant: Plant) -> dict[str, Any]:
    import open_clip.model

    def early(x: torch.Tensor, text: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return x[torch.arange(x.shape[0]), text.argmax(dim=-1) - 1]

    return {"text_global_pool": early if plant.early_pooling else open_clip.model.text_global_pool}


def table(source: Path, rows: list[tuple[Plant, dict[str, Comparison]]]) -> str:
    """The result as Markdown; numbers are those of the comparison that a plant spoils most."""
    lines = [
        "# Mistakes planted into an export",
        "",
        f"`python benchmarks/planted_errors.py {source}`: the demo's trained model, 256 pictures and texts of the "
        "bundled corpus and the hostile inputs, batch 8. Every mistake is exported anew, or written into the "
        "manifest's pixels, and compared with the right model in torch. The last three columns say which "
        "precision's gate stops it by itself; the float32 graph is always verified, and every other precision "
        "is made from it.",
        "",
        "| mistake | worst on | difference | cosine | centred cosine | error ÷ neighbour | fp32 | fp16, bf16 "
        "| int8, fp8 |",
        "|" + "---|" * 9,
    ]
    for plant, found in rows:
        name, worst = max(found.items(), key=lambda item: item[1].error_to_neighbour or 0)
        stops = [
            "stopped" if any(missed_thresholds(c, gate_of(precision, n)) for n, c in found.items()) else "passes"
            for precision in PRECISIONS
        ]
        lines.append(
            f"| {plant.name} | {name} | {worst.max_abs_difference:.1e} | {worst.min_cosine:.6f} "
            f"| {worst.min_centred_cosine:.6f} | {worst.error_to_neighbour:.1e} | {' | '.join(stops)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the study and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run's folder, such as runs/demo")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = table(arguments.run, study(arguments.run))
    print(text)
    if arguments.out:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
