"""How many pictures a second one core prepares for an encoder, of your own pictures, and what that needs of cores.

    python benchmarks/preprocessing_pace.py photos/ --gpu-pictures-per-s 2000
    python benchmarks/preprocessing_pace.py photos/ --repository model_repository --result pace.md

Whole and scaled decoding are timed in this process by its own CPU time, in turns, so that other work on the
machine changes little. With a repository, a server of its own is asked for the same pictures, decoded by itself
and by the client, and its processes' CPU time is counted: what is left with the client's pixels is transport and
encoder.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from protoclip.client import Client
from protoclip.contract.manifest import load_manifest
from protoclip.contract.pixels import PixelSpec, count_pixels, load_pixels
from protoclip.contract.rgb import PictureError
from protoclip.contract.scaled_pixels import load_scaled_pixels

Line = tuple[str, float]
"""What was measured, and its CPU seconds a picture."""


def read_pictures(folder: Path, count: int, spec: PixelSpec) -> list[bytes]:
    """Evenly spread over the folder's pictures, those left out that can't be read."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = []
    for path in paths[:: max(1, len(paths) // count)]:
        data = path.read_bytes()
        try:
            load_pixels(data, spec)
        except PictureError:
            continue
        found.append(data)
    return found[:count]


def made_up(seed: int, width: int, height: int) -> bytes:
    """A JPEG of quality 90, 4:2:0, with as much detail as a photograph."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.normal(0, 2, (height, width, 1)).astype(np.int16)
    stream = io.BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def time_decoding(pictures: Sequence[bytes], spec: PixelSpec, rounds: int) -> list[Line]:
    """Medians over rounds, the ways in turns."""
    ways: dict[str, Callable[[bytes, PixelSpec], object]] = {
        "whole": load_pixels,
        "scaled": load_scaled_pixels,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, load in ways.items():
            start = time.process_time()
            for data in pictures:
                load(data, spec)
            times[name].append((time.process_time() - start) / len(pictures))
    return [(name, statistics.median(found)) for name, found in times.items()]


def time_server(repository: Path, pictures: Sequence[bytes], rounds: int) -> list[Line]:
    """CPU time of a server's processes for a picture, by who decodes."""
    from fuzz_server import session

    from serving.triton.launcher import TritonServer

    times: dict[str, list[float]] = {"server": [], "client": []}
    with TritonServer(repository) as server:
        clients = {
            "server": Client(server.grpc_url, timeout_s=None),
            "client": Client(server.grpc_url, timeout_s=None, preprocess="client"),
        }
        for client in clients.values():
            client.embed_images(pictures[:8])
        for _ in range(rounds):
            for who, client in clients.items():
                before = _cpu_s(session(server.pid))
                client.embed_images(pictures)
                times[who].append((_cpu_s(session(server.pid)) - before) / len(pictures))
        for client in clients.values():
            client.close()
    return [(f"server's CPU, pixels by the {who}", statistics.median(found)) for who, found in times.items()]


def _cpu_s(pids: dict[int, int]) -> float:
    import os

    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def table(lines: Sequence[Line], gpu_pictures_per_s: float) -> str:
    """Markdown: pictures a second and core, and the cores for a GPU's pace."""
    rows = [
        "| what | CPU ms a picture | pictures a second and core | "
        f"cores for {gpu_pictures_per_s:,.0f} pictures/s |",
        "|---|---:|---:|---:|",
    ]
    for name, cpu_s in lines:
        rows.append(f"| {name} | {1e3 * cpu_s:.2f} | {1 / cpu_s:,.0f} | {gpu_pictures_per_s * cpu_s:.1f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the preparation of pictures.")
    parser.add_argument("pictures", type=Path, nargs="?", help="a folder of pictures")
    parser.add_argument("--made-up", default="1000x750", help="size of photographs in place of a folder")
    parser.add_argument(
        "--artifact", type=Path, help="whose input size and resize are taken; default: 224, shortest"
    )
    parser.add_argument("--repository", type=Path, help="a model repository: a server is measured too")
    parser.add_argument("--gpu-pictures-per-s", type=float, default=1000.0, help="what `protoclip benchmark` says")
    parser.add_argument("--count", type=int, default=60, help="pictures at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", type=Path, help="write the page here, too")
    options = parser.parse_args()
    spec = load_manifest(options.artifact).pixels if options.artifact else PixelSpec(224, 224)
    if options.pictures:
        pictures = read_pictures(options.pictures, options.count, spec)
    else:
        width, height = map(int, options.made_up.split("x"))
        pictures = [made_up(number, width, height) for number in range(options.count)]
    if not pictures:
        parser.error(f"{options.pictures}: no picture in it can be read")
    lines = time_decoding(pictures, spec, options.rounds)
    if options.repository is not None:
        lines += time_server(options.repository, pictures, options.rounds)
    megapixels = statistics.mean(count_pixels(data, spec.max_pixels) for data in pictures) / 1e6
    text = (
        f"{len(pictures)} {'' if options.pictures else 'made-up '}pictures of {megapixels:.1f} megapixels and "
        f"{statistics.mean(map(len, pictures)) / 1e3:.0f} kB on average, to {spec.width} × {spec.height} "
        f"({spec.resize}); medians of {options.rounds} rounds. Python {platform.python_version()}, Pillow "
        f"{PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}.\n\n"
        f"{table(lines, options.gpu_pictures_per_s)}\n"
    )
    print(text)
    if options.result is not None:
        options.result.write_text(f"# Preparing pictures, by core\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
