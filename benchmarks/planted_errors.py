"""Plants mistakes into exports of a trained model and says which gate stops which.

    python benchmarks/planted_errors.py runs/demo --out benchmarks/planted_errors_demo_202611.md

Every mistake is a graph, a manifest or a runtime of its own, compared with the right model on the 256 pictures and
texts that `protoclip export` takes; the table names the checks that stop it. `planted_precisions.py` goes
on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.engines import open_engine, write_engines
from export.graphs.runtime import Encode
from export.graphs.source import load_source
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.checks import Check
from export.parity.reference import Reference, torch_reference
from export.parity.report import EngineReport
from export.parity.verify import verify_engine
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.files import write_text
from protoclip.contract.manifest import Precision
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import silent
from protoclip.encoders.model import ClipModel

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
OTHER_MEAN = OTHER_STD = (0.5, 0.5, 0.5)
Wrap = Callable[[Encode], Encode]


@dataclass(frozen=True)
class Plant:
    """One mistake: in the weights or modules, the description, the manifest's pixels, or what a runtime gives."""

    name: str
    change: Callable[[nn.Module], None] = lambda module: None
    describe: Callable[[ClipModel], ClipModel] = lambda clip: clip
    pixels: Callable[[PixelSpec], PixelSpec] = lambda spec: spec
    early_pooling: bool = False
    wrap: Wrap | None = None


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


def wrong_from(size: int) -> Wrap:
    """Rows swapped in batches of `size` and more, as by a kernel that was never run at that size."""
    return lambda encode: lambda batch: encode(batch)[::-1] if len(batch) >= size else encode(batch)


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
    Plant("embeddings × 1.15", wrap=louder),
    Plant("2 % of the row before in every row", wrap=leaking),
    Plant("rows swapped in batches of 33 and more", wrap=wrong_from(33)),
)


def study(source: Path) -> list[tuple[Plant, dict[str, EngineReport]]]:
    """Every plant with the reports that each precision's checks give; exports once a plant."""
    clip = load_source(source).clip
    samples = PairsOptions().samples()
    reference = torch_reference(clip, samples, silent)
    return [(plant, judge(clip, reference, plant)) for plant in PLANTS]


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


def table(source: Path, rows: list[tuple[Plant, dict[str, EngineReport]]]) -> str:
    """The result as Markdown."""
    lines = [
        "# Mistakes planted into an export",
        "",
        f"`python benchmarks/planted_errors.py {source}`: the demo's trained model, 256 pictures and texts of "
        "the bundled corpus and the hostile inputs, batches of 1, 7, 8 and 64. Every mistake is exported anew, "
        "written into the manifest's pixels, or made by what runs the graph, and compared with the right model "
        "in torch. The last three columns name the checks of a precision that stop it by themselves; the float32 "
        "graph is always verified, and every other precision is made from it.",
        "",
        "| mistake | worst centred cosine | fp32 | fp16, bf16 | int8, fp8 |",
        "|" + "---|" * 5,
    ]
    for plant, reports in rows:
        comparisons = [found for _, found in reports["fp32"].comparisons()]
        worst = min(found.min_centred_cosine or -1.0 for found in comparisons)
        stops = [stopped_by(reports[precision].checks) for precision in PRECISIONS]
        lines.append(f"| {plant.name} | {worst:.6f} | {' | '.join(stops)} |")
    return "\n".join(lines) + "\n"


def stopped_by(checks: Sequence[Check]) -> str:
    """The failed checks' names, three at most and the number of others; "passes" for none."""
    names = [check.name for check in checks if check.outcome == "failed"]
    shown = "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return shown or "passes"


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
