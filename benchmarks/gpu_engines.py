"""Exports small random models and ViT-B-32, runs their verdict on an NVIDIA GPU, and writes a table.

fp32, fp16 and bf16 by ONNX Runtime's CUDA provider, at the level and with the options that Triton serves with;
fp32 with TF32 on beside it, and every engine at ONNX Runtime's default level too. Weights are random: this proves
graphs and arithmetic, never accuracy. Without a GPU or without onnxruntime-gpu it says so in one line. Example:

    python benchmarks/gpu_engines.py --out benchmarks/gpu_engines_h100_202611.md
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.parity.reference import Reference

PRECISIONS = ("fp32", "fp16", "bf16")
PACKAGES = ("torch", "open_clip_torch", "onnx", "onnxscript", "onnxruntime-gpu", "nvidia-modelopt")
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
SMALL: dict[str, dict[str, Any]] = {
    "small-vit": {
        "embed_dim": 64,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 64, "layers": 3, "head_width": 32},
        "text_cfg": TEXT,
    },
    "small-resnet": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
}
HEADINGS = (
    *("model", "engine", "verdict", "difference", "centred cosine", "all on the GPU", "pictures/s at 8", "at 64"),
    *("texts/s at 64", "pictures/s at 64, default level"),
)


@dataclass(frozen=True)
class Row:
    """One engine of one model; `failures` are the verdict's."""

    cells: tuple[str, ...]
    failures: tuple[str, ...] = ()


def why_not() -> str | None:
    """Why nothing can be measured here, in one line; None where it can."""
    import torch

    if not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU: nothing was measured"
    try:
        import onnxruntime
    except ImportError:
        return "onnxruntime is not installed: pip install onnxruntime-gpu"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} here has no CUDA: pip install onnxruntime-gpu in its place"
    return None


def some_samples(count: int) -> Any:
    """`count` pictures of noise and shapes, each another, and texts."""
    import numpy as np
    from PIL import Image, ImageDraw

    from export.parity.samples import Samples

    pictures, texts = [], []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = Image.fromarray(rng.integers(0, 256, (96, 112, 3), dtype=np.uint8))
        pen = ImageDraw.Draw(image)
        for _ in range(6):
            left, top = (int(value) for value in rng.integers(0, 60, 2))
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            pen.ellipse((left, top, left + 40, top + 30), fill=colour)
        stream = BytesIO()
        image.save(stream, "PNG")
        pictures.append(stream.getvalue())
        texts.append(f"{number} {' '.join(str(value) for value in rng.integers(0, 1000, 6))} shapes")
    return Samples(tuple(pictures), tuple(texts), "drawings")


def measure_model(name: str, folder: Path, count: int) -> list[Row]:
    """Exports `name` with random weights, and judges and times every precision."""
    from export.engines import write_engines
    from export.graphs.source import load_source
    from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
    from export.parity.reference import torch_reference
    from protoclip.contract.progress import silent

    clip = load_source(name).clip
    print(f"{name}: exporting", file=sys.stderr, flush=True)
    write_engines(
        clip,
        folder,
        PRECISIONS,
        None,
        opset=DEFAULT_OPSET,
        metadata={},
        max_embedded_bytes=MAX_EMBEDDED_BYTES,
        progress=silent,
    )
    reference = torch_reference(clip, some_samples(count), silent)
    rows = []
    for precision in PRECISIONS:
        print(f"{name}: {precision}", file=sys.stderr, flush=True)
        rows.append(judged(name, reference, folder, precision))
    return [*rows, with_tf32(name, reference, folder)]


def judged(name: str, reference: Reference, folder: Path, precision: Any) -> Row:
    """The verdict on one engine on the GPU, its speed as it is served, and at the default level."""
    from export.engine_graphs import judge_graphs
    from export.engines import SIGNATURES
    from export.graphs.sessions import as_encoder, open_session
    from protoclip.contract.errors import ModelError

    try:
        report, encoders = judge_graphs(reference, folder, precision)
    except ModelError as error:
        return Row((name, f"onnx_{precision}", "not run", *["–"] * 7), (" ".join(str(error).split()),))
    path = folder / f"onnx_{precision}" / SIGNATURES[0].file
    default = as_encoder(open_session(path, "ORT_ENABLE_ALL", "cuda"), path, SIGNATURES[0])
    found = [comparison for _, comparison in report.comparisons()]
    placement = next(check for check in report.checks if check.name == "all arithmetic on the GPU")
    pixels, tokens = reference.images.real, reference.texts.real
    cells = (
        *(name, report.name, "passed" if report.passed else "FAILED"),
        worst([comparison.max_abs_difference for comparison in found], max, "{:.1e}"),
        worst([comparison.min_centred_cosine for comparison in found], min, "{:.6f}"),
        placement.outcome,
        *(f"{rate(encoders.image, pixels, size):,.0f}" for size in (8, 64)),
        f"{rate(encoders.text, tokens, 64):,.0f}",
        f"{rate(default, pixels, 64):,.0f}",
    )
    return Row(cells, report.failures)


def with_tf32(name: str, reference: Reference, folder: Path) -> Row:
    """fp32 as CUDA's provider computes it by default: products in TF32."""
    from export.engines import SIGNATURES
    from export.graphs.sessions import as_encoder, open_session
    from export.parity.compare import compare
    from export.parity.reference import in_batches

    encoders = []
    for signature in SIGNATURES:
        path = folder / "onnx_fp32" / signature.file
        session = open_session(path, "ORT_ENABLE_ALL", "cuda", use_tf32="1")
        encoders.append(as_encoder(session, path, signature))
    inputs = (reference.images, reference.texts)
    found = [
        compare(one.expected, in_batches(encode, one.real, 32))
        for one, encode in zip(inputs, encoders, strict=True)
    ]
    cells = (
        *(name, "onnx_fp32, TF32 on", "not served"),
        worst([comparison.max_abs_difference for comparison in found], max, "{:.1e}"),
        worst([comparison.min_centred_cosine for comparison in found], min, "{:.6f}"),
        "–",
        *(f"{rate(encoders[0], reference.images.real, size):,.0f}" for size in (8, 64)),
        f"{rate(encoders[1], reference.texts.real, 64):,.0f}",
        "–",
    )
    return Row(cells)


def worst(values: Sequence[float | None], choose: Any, form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(choose(known)) if known else "–"


def rate(encode: Any, inputs: Any, size: int) -> float:
    """Inputs a second in batches of `size`, transfers included: the best of three rounds of 0.5 s."""
    import numpy as np

    batch = np.resize(inputs, (size, *inputs.shape[1:]))
    encode(batch)
    best = 0.0
    for _ in range(3):
        started, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - started) < 0.5:
            encode(batch)
            done += size
        best = max(best, done / seconds)
    return best


def as_markdown(rows: Sequence[Row]) -> str:
    import torch

    lines = [
        "# ONNX engines on a GPU",
        "",
        f"`python benchmarks/gpu_engines.py`: {torch.cuda.get_device_name()}, Python {platform.python_version()}, "
        f"{', '.join(found_versions())}. Random weights: graphs and arithmetic, never accuracy. Difference and "
        "centred cosine: the worst of every comparison with torch in float32 on the CPU. All on the GPU: whether "
        "CUDA computes every floating-point operator. Rates include transfers.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
        "",
        *(f"- {row.cells[0]} {row.cells[1]}: {failure}" for row in rows for failure in row.failures),
    ]
    return "\n".join(lines).rstrip() + "\n"


def found_versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="also written here")
    parser.add_argument("--models", nargs="*", default=[*SMALL, "ViT-B-32"], help="names known to open_clip")
    parser.add_argument("--samples", type=int, default=64, help="pictures and texts that are compared")
    options = parser.parse_args(argv)
    if (reason := why_not()) is not None:
        print(reason)
        return 0
    import protoclip.encoders.model  # noqa: F401, I001 - prepares torchvision before open_clip is imported
    import open_clip

    with tempfile.TemporaryDirectory(prefix="protoclip-") as work:
        configs = Path(work) / "configs"
        configs.mkdir()
        for name, config in SMALL.items():
            (configs / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(configs)
        rows = []
        for name in options.models:
            folder = Path(work) / name
            folder.mkdir()
            rows += measure_model(name, folder, options.samples)
            # After every model, so that a machine that goes away leaves what is known.
            table = as_markdown(rows)
            print(table, flush=True)
            if options.out is not None:
                options.out.write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
