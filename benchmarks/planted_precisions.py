"""Plants mistakes into lower precisions alone, and names the checks that stop them.

    python benchmarks/planted_precisions.py runs/demo --out benchmarks/planted_precisions_demo_202611.md

Ends with exit code 1 where one is missed. Those in the float32 graph itself are in `planted_errors.py`, those in
what is served in `planted_served.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from planted import Outcome, failed_names, outcome_of, run, words

from export.engine_graphs import judge_graphs
from export.engines import SIGNATURES, write_engines
from export.graphs.source import load_source
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.checks import Check
from export.parity.reference import torch_reference
from export.parity.samples import Samples, sample_tokens
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.manifest import Precision
from protoclip.contract.progress import silent
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel, encode_texts

LARGEST = 1.9e6
RIGHT: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Plant:
    """A mistake outside the float32 graph, the checks that have to find it, and those of the verdict on it."""

    name: str
    found_by: frozenset[str]
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.name, self.found_by, failed_names(self.checks))


def study(source: Path, samples: int) -> tuple[str, list[Outcome]]:
    """The table of mistakes in int8 alone and in fp16 alone, beside the right engines, and what became of them."""
    plants = judge_all(load_source(source).clip, PairsOptions(count=samples).samples())
    return table(source, samples, plants), [plant.outcome for plant in plants]


def judge_all(clip: ClipModel, samples: Samples) -> list[Plant]:
    """Every mistake with the verdict on it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = folder / "right"
        right.mkdir()
        _write(clip, right, RIGHT)
        reference = torch_reference(clip, samples, silent)
        checks = [check for precision in RIGHT for check in judge_graphs(reference, right, precision)[0].checks]
        return [
            Plant("none (the right fp32, fp16 and int8)", frozenset(), tuple(checks)),
            _int8_by_batch(clip, samples, folder),
            _beyond_half(_large_activation(clip, samples), samples, folder, "an activation of 1.9e6"),
            _beyond_half(_large_bias(clip), samples, folder, "a bias of 1.9e6"),
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
    return Plant(
        "int8 with one scale a batch, as ONNX Runtime's quantizer writes it",
        frozenset({"image, rows beside others", "text, rows beside others"}),
        report.checks,
    )


def _large_activation(clip: ClipModel, samples: Samples) -> ClipModel:
    """A hidden unit of the text tower reaches `LARGEST` with weights that half holds, and adds no more than any.

    It is along the input of one token, which makes the most of small weights.
    """
    module = deepcopy(clip.module)
    block = module.get_submodule("transformer.resblocks.0.mlp.c_fc")
    inputs: list[torch.Tensor] = []
    with block.register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
        tokens = sample_tokens(samples, Tokenizer(clip.tokenizer_json, clip.text))
        encode_texts(replace(clip, module=module), torch.from_numpy(tokens))
    hidden = torch.cat(inputs).flatten(0, 1)
    direction = hidden[hidden.norm(dim=1).argmax()]
    with torch.no_grad():
        module.get_parameter("transformer.resblocks.0.mlp.c_fc.weight")[0] = (
            direction * LARGEST / (hidden @ direction).max()
        )
        module.get_parameter("transformer.resblocks.0.mlp.c_fc.bias")[0] = 0
        module.get_parameter("transformer.resblocks.0.mlp.c_proj.weight")[:, 0] *= 1e-6
    return replace(clip, module=module)


def _large_bias(clip: ClipModel) -> ClipModel:
    """The same from a bias that half does not hold."""
    module = deepcopy(clip.module)
    with torch.no_grad():
        module.get_parameter("transformer.resblocks.0.mlp.c_fc.bias")[0] = LARGEST
        module.get_parameter("transformer.resblocks.0.mlp.c_proj.weight")[:, 0] *= 1e-6
    return replace(clip, module=module)


def _beyond_half(clip: ClipModel, samples: Samples, folder: Path, what: str) -> Plant:
    """A model that is right in float32, and is its own reference."""
    place = folder / what
    place.mkdir()
    _write(clip, place, ("fp32", "fp16"))
    report, _ = judge_graphs(torch_reference(clip, samples, silent), place, "fp16")
    return Plant(
        f"fp16 of a text tower with {what}", frozenset({"text, range of fp16", "text, batch 8"}), report.checks
    )


def table(source: Path, samples: int, plants: Sequence[Plant]) -> str:
    """The result as Markdown."""
    lines = [
        "# Mistakes planted into lower precisions",
        "",
        f"`python benchmarks/planted_precisions.py {source} --samples {samples}`: the demo's trained model, and "
        f"mistakes of int8 and fp16 alone, on {samples} pictures and texts.",
        "",
        "| mistake | outcome | failed checks |",
        "|---|---|---|",
        *(f"| {plant.name} | {plant.outcome.word} | {words(failed_names(plant.checks))} |" for plant in plants),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(__doc__, study, samples=64)
