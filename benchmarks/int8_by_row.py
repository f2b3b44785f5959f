"""Measures dynamic int8 with one scale a batch against a scale a row: speed, error, and what neighbours change.

    python benchmarks/int8_by_row.py ViT-B-32 --out benchmarks/int8_by_row_202611.md

Speeds are items per second of CPU time, in turns, so that other load on the machine counts little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from export.graphs.quantization import write_int8_dynamic
from export.graphs.runtime import Encode, open_encoder
from export.graphs.source import load_source
from export.graphs.to_onnx import IMAGE, TEXT, Signature, write_onnx
from export.parity.compare import centred_cosines, max_abs_difference
from export.parity.samples import sample_pixels, sample_tokens
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.files import write_text
from protoclip.contract.text import Tokenizer

BATCH, ITEMS, ROUNDS = 8, 32, 7


@dataclass(frozen=True)
class Row:
    """One graph's result: items per second of CPU time, least centred cosine, and change by neighbours."""

    encoder: str
    graph: str
    items_per_cpu_s: float
    centred_cosine: float
    changed_by_neighbours: float


def by_batch(source: Path, target: Path) -> None:
    """ONNX Runtime's dynamic quantizer as it is."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)


GRAPHS: dict[str, Callable[[Path, Path], None]] = {
    "a scale a batch": by_batch,
    "a scale a row": write_int8_dynamic,
}


def study(name: str, folder: Path) -> list[Row]:
    """Both encoders of the model in float32 and in both kinds of int8."""
    clip, samples = load_source(name).clip, PairsOptions().samples()
    tokens = sample_tokens(samples, Tokenizer(clip.tokenizer_json, clip.text))[:ITEMS]
    pixels = sample_pixels(samples, clip.pixels)[:ITEMS]
    image, text = (ImageEncoder(clip), example_pixels(clip)), (TextEncoder(clip), example_tokens(clip))
    rows = []
    for signature, (encoder, example), inputs in ((IMAGE, image, pixels), (TEXT, text, tokens)):
        source = folder / signature.file
        write_onnx(encoder, example, source, signature)
        opened = {"float32": open_encoder(source, signature)}
        for graph, write in GRAPHS.items():
            target = folder / f"{graph}_{signature.file}"
            write(source, target)
            opened[graph] = open_encoder(target, signature, "int8")
        rows += _rows(signature, opened, inputs)
    return rows


def _rows(signature: Signature, opened: dict[str, Encode], inputs: NDArray[Any]) -> list[Row]:
    alone = {name: _in_batches(encode, inputs, 1) for name, encode in opened.items()}
    batch = {name: _in_batches(encode, inputs, BATCH) for name, encode in opened.items()}
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(ROUNDS):
        for name, encode in opened.items():
            started = time.process_time()
            encode(inputs[:BATCH])
            seconds[name].append(time.process_time() - started)
    return [
        Row(
            Path(signature.file).stem,
            name,
            BATCH / float(np.median(seconds[name])),
            float(centred_cosines(batch["float32"], batch[name]).min()),
            max_abs_difference(alone[name], batch[name]),
        )
        for name in opened
    ]


def _in_batches(encode: Encode, inputs: NDArray[Any], size: int) -> NDArray[np.float32]:
    return np.concatenate([encode(inputs[start : start + size]) for start in range(0, len(inputs), size)])


def table(name: str, rows: list[Row]) -> str:
    """The result as Markdown."""
    lines = [
        f"# Dynamic int8 of {name}, by batch and by row",
        "",
        f"`python benchmarks/int8_by_row.py {name}`: {ITEMS} items of the bundled corpus, batch {BATCH}, median "
        f"of {ROUNDS} rounds in turns; neighbours: largest difference of a row alone and in its batch.",
        "",
        "| encoder | graph | items per s of CPU time | least centred cosine | changed by neighbours |",
        "|" + "---|" * 5,
    ]
    lines += [
        f"| {row.encoder} | {row.graph} | {row.items_per_cpu_s:.1f} | {row.centred_cosine:.5f} "
        f"| {row.changed_by_neighbours:.1e} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the study and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of an open_clip model, or a run's folder")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(arguments.model, study(arguments.model, Path(folder)))
    print(text)
    if arguments.out:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
