"""ONNX Runtime and OpenVINO against torch, in turns, on one model; writes a table.

Weights are random: speed does not depend on them. What int8 costs in accuracy stands in docs/export.md. Example:

    python benchmarks/export_speed.py --result benchmarks/export_speed_2cores_202611.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protoclip.contract.files import write_text

PROTOCLIP = [sys.executable, "-c", "from protoclip.cli import main; main()"]
CANDIDATES = (
    *("torch_fp32", "torch_bf16", "torch_compile"),
    *("onnx_fp32", "onnx_int8", "onnx_int8_static"),
    *("openvino_fp32", "openvino_bf16", "openvino_int8_static"),
)
PACKAGES = ("torch", "open_clip_torch", "onnxruntime", "openvino")


def measure(model: str, batches: list[int], seconds: float, rounds: int) -> dict[str, Any]:
    """What `protoclip benchmark --json` finds on a fresh export of `model`."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = str(Path(folder) / "artifact")
        precisions = ("--precision", "int8", "--precision", "int8_static")
        # Few samples: speed is what is measured.
        few = ("--samples", "32", "--allow-inaccurate")
        _run("export", model, *precisions, *few, "--out", artifact, "--json")
        options = [word for name in CANDIDATES for word in ("--candidate", name)]
        options += [word for batch in batches for word in ("--batch", str(batch))]
        options += ["--seconds", str(seconds), "--rounds", str(rounds), "--json"]
        found: dict[str, Any] = json.loads(_run("benchmark", artifact, model, *options))
    return found


def _run(*arguments: str) -> str:
    done = subprocess.run([*PROTOCLIP, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    # 3: the weights are random, and accuracy is not what is measured here.
    if done.returncode not in (0, 3):
        raise SystemExit(f"protoclip {arguments[0]}: exit code {done.returncode}")
    return done.stdout


def report(model: str, found: dict[str, Any], load: float) -> str:
    """The result as Markdown."""
    settings = found["settings"]
    lines = [
        f"# {model}'s image encoder on a CPU",
        "",
        f"`make export-speed`: {found['processor']}, {platform.machine()}, {settings['threads']} threads for "
        f"every candidate, median of {settings['rounds']} rounds in turns, {settings['seconds']:g} s a cell. "
        + "Random weights. "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f". Load of the machine before: {load:.1f}.",
        "",
        "| candidate | batch | pictures/s | × torch_fp32 | p50 ms | p99 ms | peak MB | size MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = {cell["batch"]: cell["items_per_s"] for cell in found["cells"] if cell["arm"] == CANDIDATES[0]}
    sizes = {each["name"]: each["num_bytes"] / 1e6 for each in found["arms"]}
    for cell in sorted(found["cells"], key=lambda cell: (cell["batch"], CANDIDATES.index(cell["arm"]))):
        most = f"{cell['p99_ms']:.1f}{'†' if cell['p99_is_maximum'] else ''}"
        memory = "–" if cell["memory_bytes"] is None else f"{cell['memory_bytes'] / 1e6:.0f}"
        lines.append(
            f"| {cell['arm']} | {cell['batch']} | {cell['items_per_s']:.1f} "
            f"| {cell['items_per_s'] / first[cell['batch']]:.2f} | {cell['p50_ms']:.1f} "
            f"| {most} | {memory} | {sizes[cell['arm']]:.0f} |"
        )
    lines += ["", "†: fewer than 30 calls, the slowest of them. Size: both encoders; of torch its weights."]
    lines += [f"Not run: {missing['name']}: {missing['reason']}." for missing in found["missing"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and writes or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each candidate and batch, in all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    found = measure(arguments.model, arguments.batches, arguments.seconds, arguments.rounds)
    text = report(arguments.model, found, load)
    print(text)
    if arguments.result:
        write_text(arguments.result, text)


if __name__ == "__main__":
    main()
