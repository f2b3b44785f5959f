"""Exports small random models of many architectures and seeds, and counts the false alarms of the verdict.

    python benchmarks/correct_exports.py --out benchmarks/correct_exports_202611.md

Every export is right, so that no check may fail: in every precision that a CPU runs, with one thread and with two.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from export.engine_graphs import judge_graphs
from export.engines import write_engines
from export.graphs.fingerprint import fingerprint
from export.graphs.precision import CALIBRATED, Calibration
from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
from export.parity.reference import torch_reference
from export.parity.samples import Samples, pick_calibration, sample_pixels, sample_tokens
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.files import write_text
from protoclip.contract.manifest import Precision
from protoclip.contract.progress import silent
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel
from protoclip.runs.model import load_model

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 2}
VIT = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 2, "head_width": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}


def _timm(name: str, size: int, **settings: Any) -> dict[str, Any]:
    return {"image_size": size, "timm_model_name": name, "timm_proj": "linear", **settings}


def _model(vision: dict[str, Any], text: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {**TEXT, **(text or {})}, **settings}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "correct-vit": _model(VIT),
    "correct-vit-quickgelu": _model({**VIT, "patch_size": 16, "layers": 4}, quick_gelu=True),
    "correct-vit-average": _model({**VIT, "pool_type": "avg", "final_ln_after_pool": True}),
    "correct-resnet": _model(RESNET),
    "correct-resnet-quickgelu": _model({**RESNET, "layers": [2, 1, 2, 1]}, quick_gelu=True),
    "correct-convnext": _model(_timm("test_convnext", 64, timm_pool="avg")),
    "correct-efficientnet": _model(_timm("test_efficientnet", 64, timm_pool="avg")),
    "correct-sigmoid": _model(
        _timm("test_vit", 160, timm_pool="map", timm_proj="none"),
        {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        custom_text=True,
        init_logit_bias=-10,
        embed_dim=64,
    ),
    "correct-text-deep": _model(VIT, {"pool_type": "last", "layers": 4, "ls_init_value": 0.1}, custom_text=True),
    "correct-text-first": _model(VIT, {"pool_type": "first", "no_causal_mask": True}, custom_text=True),
}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "int8_static", "fp8")
THREADS = (1, 2)


@dataclass(frozen=True)
class Export:
    """One architecture's verdicts: the failed checks, each with threads and engine."""

    architecture: str
    seed: int
    alarms: tuple[str, ...]
    worst_fp32: float
    num_checks: int


def study(
    architectures: Sequence[str],
    samples: Samples,
    precisions: Sequence[Precision] = PRECISIONS,
    threads: Sequence[int] = THREADS,
) -> list[Export]:
    """Exports every architecture with a seed of its own and judges it with each number of threads."""
    _register()
    before = torch.get_num_threads()
    try:
        return [
            _export(name, seed, samples, tuple(precisions), threads) for seed, name in enumerate(architectures, 1)
        ]
    finally:
        torch.set_num_threads(before)


def _export(
    name: str, seed: int, samples: Samples, precisions: tuple[Precision, ...], threads: Sequence[int]
) -> Export:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = load_model(name)
    alarms, worst, checks = [], 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_engines(
            clip,
            folder,
            precisions,
            _calibration(clip) if set(CALIBRATED) & set(precisions) else None,
            opset=DEFAULT_OPSET,
            metadata={"model": clip.source, "fingerprint": fingerprint(clip)},
            max_embedded_bytes=MAX_EMBEDDED_BYTES,
            progress=silent,
        )
        for number in threads:
            torch.set_num_threads(number)
            reference = torch_reference(clip, samples, silent, random_weights=True)
            for precision in precisions:
                report, _ = judge_graphs(reference, folder, precision)
                alarms += [f"{number} threads, {report.name}: {failure}" for failure in report.failures]
                checks += sum(check.outcome != "not checked" for check in report.checks)
                if precision == "fp32":
                    found = [one.max_abs_difference or 0.0 for _, one in report.same_inputs()]
                    worst = max(worst, *found)
    return Export(name, seed, tuple(alarms), worst, checks)


def _calibration(clip: ClipModel) -> Calibration:
    found = pick_calibration(PairsOptions().load(), "the bundled corpus")
    return Calibration(
        sample_pixels(found, clip.pixels), sample_tokens(found, Tokenizer(clip.tokenizer_json, clip.text))
    )


def _register() -> None:
    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        for name, config in ARCHITECTURES.items():
            (Path(folder) / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(Path(folder))


def table(exports: Sequence[Export], num_samples: int) -> str:
    """The result as Markdown."""
    alarms = sum(len(export.alarms) for export in exports)
    lines = [
        "# Correct exports raise no alarm",
        "",
        f"`python benchmarks/correct_exports.py --samples {num_samples}`: {len(exports)} architectures with "
        f"random weights of as many seeds, {', '.join(PRECISIONS)}, {' and '.join(map(str, THREADS))} threads, "
        f"{num_samples} pictures and texts of the bundled corpus, batches of 1, 7, 8 and 64. "
        f"{alarms} of all checks failed.",
        "",
        "| architecture | seed | largest fp32 difference | checks answered | failed |",
        "|" + "---|" * 5,
        *(
            f"| {one.architecture} | {one.seed} | {one.worst_fp32:.1e} | {one.num_checks} "
            f"| {'; '.join(one.alarms) or 'none'} |"
            for one in exports
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the study and prints or writes the table; exit code 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    exports = study(tuple(ARCHITECTURES), PairsOptions(count=arguments.samples).samples())
    text = table(exports, arguments.samples)
    print(text)
    if arguments.out:
        write_text(arguments.out, text)
    raise SystemExit(any(export.alarms for export in exports))


if __name__ == "__main__":
    main()
