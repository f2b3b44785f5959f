"""Pairs per CPU second of the loader, against open_clip's loaders of CSV and of WebDataset, on the same pictures.

    python benchmarks/loader.py --result benchmarks/loader_2cores_202611.md

Each measurement is a process of its own, in turn: from a loader that is set up to the last batch of normalised
float32 pictures [B, 3, 224, 224] and tokens; worker processes and their start are included. CPU seconds are those
of the process and its workers, user and system. open_clip's loaders need pandas, and webdataset up to 0.2.86.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

MODEL, SIZE = "ViT-B-32", 224
SCALE = (0.5, 1.0)
SIZES = {"500 × 375": (500, 375, 1024, 1.3), "1,600 × 1,200": (1600, 1200, 384, 2.0)}
ARMS = ("ours, CSV", "open_clip, CSV", "ours, WebDataset", "open_clip, WebDataset")
NUM_SHARDS = 8
Load = Callable[[], Iterator[tuple[Any, Any]]]
"""Gives pictures and tokens, batch by batch."""


def picture(width: int, height: int, draws: np.random.Generator) -> bytes:
    """Octaves of noise, stronger the coarser, as in photographs."""
    total = np.zeros((height, width, 3), dtype=np.float32)
    for octave in range(9):
        step = 2**octave
        coarse = draws.normal(size=(3, height // step + 2, width // step + 2)).astype(np.float32)
        channels = [
            np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC)) for part in coarse
        ]
        total += np.stack(channels, axis=-1) * step**0.8
    pixels = ((total - total.mean()) / total.std() * 50 + 120).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, subsampling=2)
    return stream.getvalue()


def write_pairs(folder: Path, width: int, height: int, count: int) -> float:
    """The same pictures as files beside a table, and in shards; returns their bits a pixel."""
    draws = np.random.default_rng(width)
    (folder / "files").mkdir(parents=True)
    (folder / "shards").mkdir()
    made = [picture(width, height, draws) for _ in range(min(count, 64))]
    rows = ["image\ttext"]
    names = [folder / "shards" / f"{number:05}.tar" for number in range(NUM_SHARDS)]
    shards = [tarfile.open(name, "w") for name in names]  # noqa: SIM115  all are written in turn
    for number in range(count):
        data, text = (
            made[number % len(made)],
            f"a photograph of thing number {number}, seen from the left on a sunny day",
        )
        path = folder / "files" / f"{number:06}.jpg"
        path.write_bytes(data)
        rows.append(f"{path}\t{text}")
        for suffix, content in (("jpg", data), ("txt", text.encode())):
            entry = tarfile.TarInfo(f"{number:06}.{suffix}")
            entry.size = len(content)
            shards[number % NUM_SHARDS].addfile(entry, io.BytesIO(content))
    for shard in shards:
        shard.close()
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n")
    return 8 * sum(map(len, made)) / len(made) / (width * height)


def ours(source: Path, options: Namespace) -> Load:
    import torch

    from protoclip.config.load import build_config
    from protoclip.contract.model_inputs import ModelInputs
    from protoclip.contract.pixels import PixelSpec
    from protoclip.contract.text import Tokenizer
    from protoclip.data.episodes import requests_for
    from protoclip.data.training_set import build_training_set
    from protoclip.encoders.tokenizer_lookup import tokenizer_for

    plain = {"jitter": 0, "grey": 0, "blur": 0, "flip": 0, "crop_scale": SCALE}
    columns = {} if source.is_dir() else {"image_column": "image", "text_columns": ["text"]}
    config = build_config(
        {
            "data": {"path": [str(source)], "cache_mb": 0, **columns},
            "augmentation": plain,
            "train": {"batch_size": options.batch_size, "steps": 1, "num_workers": options.workers},
        },
        "benchmark",
    )
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    inputs = ModelInputs(PixelSpec(SIZE, SIZE), mean, std, Tokenizer(*tokenizer_for(MODEL)))
    data = build_training_set(config, inputs, torch.device("cpu"), lambda items, _: items, num_ranks=1)
    episode = data.plan.episode(0)
    requests = [requests_for(episode, positions, 0, 1) for positions in data.plan.batches(episode)]

    def load() -> Iterator[tuple[Any, Any]]:
        data.feed.expect(requests)
        yield from map(data.pipeline, data.stream(requests))
        data.feed.close()

    return load


def theirs(source: Path, options: Namespace) -> Load:
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    make_torchvision_importable()
    import open_clip
    from open_clip.transform import AugmentationCfg, image_transform
    from open_clip_train import data as loaders

    transform = image_transform(SIZE, is_train=True, aug_cfg=AugmentationCfg(scale=SCALE))
    arguments: dict[str, Any] = {
        "batch_size": options.batch_size, "workers": options.workers, "world_size": 1, "distributed": False,
        "seed": 0,
        "csv_img_key": "image", "csv_caption_key": "text", "csv_separator": "\t", "train_data": str(source),
        "train_num_samples": options.pairs, "train_data_upsampling_factors": None, "dataset_resampled": False,
    }  # fmt: skip
    if source.is_dir():
        arguments["train_data"] = str(source / f"{{00000..{NUM_SHARDS - 1:05}}}.tar")
    make: Callable[..., Any] = loaders.get_wds_dataset if source.is_dir() else loaders.get_csv_dataset
    made = make(Namespace(**arguments), transform, True, tokenizer=open_clip.get_tokenizer(MODEL))
    return lambda: iter(made.dataloader)


def measure(options: Namespace) -> None:
    import torch

    torch.set_num_threads(1)
    folder, arm = Path(options.folder).resolve(), options.arm
    source = folder / ("shards" if "WebDataset" in arm else "pairs.tsv")
    load = (ours if arm.startswith("ours") else theirs)(source, options)
    before, began, count = cpu_s(), time.monotonic(), 0
    batches = load()
    for images, tokens in batches:
        if (
            tuple(images.shape[1:]) != (3, SIZE, SIZE)
            or images.dtype != torch.float32
            or len(tokens) != len(images)
        ):
            raise SystemExit(f"{arm}: {images.shape}, {images.dtype}")
        count += len(images)
    # Processes are counted once they have ended: open_clip's live as long as their loader.
    del batches, load
    gc.collect()
    if count < options.pairs - options.batch_size:
        raise SystemExit(f"{arm}: {count} of {options.pairs} pairs")
    print(json.dumps({"pairs": count, "cpu_s": cpu_s() - before, "wall_s": time.monotonic() - began}))


def cpu_s() -> float:
    """Of this process and of those of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in used)


def run_arm(arm: str, folder: Path, count: int, options: Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--arm", arm, "--folder", str(folder), "--workers", str(options.workers)]
    command += ["--batch-size", str(options.batch_size), "--pairs", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, folder: Path, options: Namespace) -> list[str]:
    width, height, count, needed = SIZES[name]
    bits = write_pairs(folder, width, height, count)
    rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(options.rounds):
        for arm in ARMS:
            found = run_arm(arm, folder, count, options)
            rates[arm].append(found["pairs"] / found["cpu_s"])
            print(f"{name}, {arm}: {rates[arm][-1]:.0f} pairs per CPU second", file=sys.stderr)
    lines = []
    for kind in ("CSV", "WebDataset"):
        own, other = rates[f"ours, {kind}"], rates[f"open_clip, {kind}"]
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        ratio, spread = statistics.median(ratios), f"{min(ratios):.2f}–{max(ratios):.2f}"
        medians = f"{statistics.median(own):.0f} | {statistics.median(other):.0f}"
        verdict = f"{needed:g}: {'reached' if ratio >= needed else 'missed'}"
        lines.append(
            f"| {name}, {bits:.1f} bits a pixel | {kind} | {medians} | {ratio:.2f} ({spread}) | {verdict} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=".cache/loader", help="for the pictures; written anew")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        measure(options)
        return
    import shutil
    from importlib.metadata import version

    shutil.rmtree(options.folder, ignore_errors=True)
    lines = [
        text
        for number, name in enumerate(SIZES)
        for text in compare(name, Path(options.folder).resolve() / str(number), options)
    ]
    versions = ", ".join(
        f"{name} {version(name).partition('+')[0]}"
        for name in ("torch", "torchvision", "open_clip_torch", "webdataset", "pillow")
    )
    load, (low, high) = os.getloadavg()[0], SCALE
    counts = " and ".join(f"{count:,}" for _, _, count, _ in SIZES.values())
    page = f"""# Loading pairs: ours and open_clip's
`python benchmarks/loader.py`: {counts} pairs in batches of {options.batch_size}, {options.workers} workers each,
{options.rounds} rounds in turn; {os.cpu_count()} cores, load {load:.1f} at the end. CPU seconds, so that other
programs matter less, and ratios of runs that followed one another. Noise with a photograph's spectrum, JPEG,
quality 90, 4:2:0, page cache warm, crops of {low:g} to {high:g} of the area to {SIZE} px, bicubic (ours by torch,
theirs by Pillow), not augmented else; up to normalised float32 on the CPU, which ours makes in the step, of whole
batches. Theirs is `open_clip_train.data` as the wheel ships it. Ours tokenises the texts when it is set up, theirs
in its workers; set-up is not counted.
{versions}, libjpeg-turbo {features.version_feature("libjpeg_turbo")}.

| pictures | from | ours, pairs per CPU second | open_clip | ratio, median (all) | wanted |
|---|---|---|---|---|---|
"""
    page += "\n".join(lines) + "\n"
    print(page)
    if options.result is not None:
        options.result.write_text(page)


if __name__ == "__main__":
    main()
