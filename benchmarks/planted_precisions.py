"""Plants mistakes into lower precisions alone, and names the checks that stop them.

    python benchmarks/planted_precisions.py runs/demo --out benchmarks/planted_precisions_demo_202611.md

Those in the float32 graph itself are in `planted_errors.py`, those in what is served in `planted_served.py`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from export.engine_graphs import judge_graphs
from export.engines import SIGNATURES, write_engines
from export.graphs.source import load_source
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.checks import Check
from export.parity.reference import torch_reference
from export.parity.samples import Samples
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.files import write_text
from protoclip.contract.manifest import Precision
from protoclip.contract.progress import silent
from protoclip.encoders.model import ClipModel

NUM_SAMPLES = 64
RIGHT: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class Plant:
    """A mistake outside the float32 graph, and the checks of the verdict on it."""

    name: str
    checks: tuple[Check, ...]


def study(source: Path) -> list[Plant]:
    """Mistakes in int8 alone and in fp16 alone, beside the right int8."""
    clip = load_source(source).clip
    samples = PairsOptions(count=NUM_SAMPLES).samples()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = folder / "right"
        right.mkdir()
        _write(clip, right, RIGHT)
        reference = torch_reference(clip, samples, silent)
        checks = [check for precision in RIGHT for check in judge_graphs(reference, right, precision)[0].checks]
        return [
            Plant("none (the right fp32 and int8)", tuple(checks)),
            _int8_by_batch(clip, samples, folder),
            _beyond_half(clip, samples, folder),
        ]


def _write(clip: ClipModel, place: Path, precisions: Sequence[Precision]) -> None:
    write_engines(
        clip,
        place,
        precisions,
        None,
        opset=DEFAULT_OPSET,
        metadata={},
        max_embedded_bytes=MAX_EMBEDDED_BYTES,
        progress=silent,
    )


def _int8_by_batch(clip: ClipModel, samples: Samples, folder: Path) -> Plant:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    place = folder / "by_batch" / "onnx_int8"
    place.mkdir(parents=True)
    for signature in SIGNATURES:
        source = folder / "right" / "onnx_fp32" / signature.file
        quantize_dynamic(
            source, place / signature.file, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
        )
    report, _ = judge_graphs(torch_reference(clip, samples, silent), place.parent, "int8")
    return Plant("int8 with one scale a batch, as ONNX Runtime's quantizer writes it", report.checks)


def _beyond_half(clip: ClipModel, samples: Samples, folder: Path) -> Plant:
    """One hidden unit of the text tower 200,000 times as large, and its use as small: right in float32."""
    module = deepcopy(clip.module)
    with torch.no_grad():
        module.get_parameter("transformer.resblocks.0.mlp.c_fc.weight")[0] *= 2e5
        module.get_parameter("transformer.resblocks.0.mlp.c_proj.weight")[:, 0] /= 2e5
    large = replace(clip, module=module)
    place = folder / "half"
    place.mkdir()
    _write(large, place, ("fp32", "fp16"))
    report, _ = judge_graphs(torch_reference(large, samples, silent), place, "fp16")
    return Plant("fp16 of a text tower whose activations are beyond its range", report.checks)


def table(source: Path, plants: Sequence[Plant]) -> str:
    """The result as Markdown."""
    lines = [
        "# Mistakes planted into lower precisions",
        "",
        f"`python benchmarks/planted_precisions.py {source}`: the demo's trained model, and "
        f"mistakes of int8 and fp16 alone, on {NUM_SAMPLES} pictures and texts.",
        "",
        "| mistake | stopped by |",
        "|---|---|",
        *(f"| {plant.name} | {stopped_by(plant.checks)} |" for plant in plants),
    ]
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
