"""Time per pair of plain CLIP, streamed and extracted ProtoCLIP, and of open_clip's own trainer, side by side.

    make time-per-pair

Every candidate trains the same model on the same pictures with the same batch, crops and precision, in its own
process; they take turns, round after round. What counts is the time between steps over the last passes, by
default two of three: reading, decoding, forward, backward, update, and for ProtoCLIP extraction and K-means. None
keeps decoded pictures. An episode is one pass, K a tenth of it. With --refresh-steps there are two more
candidates, whose prototypes are made anew so often: the first clustering, from drawn centroids, belongs into the
passes before.

Utilisation is the model's floating-point operations (forward, and twice as many backward; none of extraction,
heads or K-means) by the time, over what one large matrix product reaches here in the same precision.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import parquet

from protoclip.contract.files import write_text
from protoclip.data.table import load_pairs
from protoclip.demo.run import demo_config
from protoclip.encoders.model import create_module
from protoclip.runs.metrics import read_metrics
from protoclip.sources import Pairs

TITLE = """# Time per pair, side by side

`make time-per-pair`; what is timed stands in `benchmarks/time_per_pair.py`.
"""
PLAIN, OPEN_CLIP = "plain CLIP", "open_clip_train"
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: ("loss.proto_weight=0",),
    "stream": ("prototypes.source=stream",),
    "extract": ("prototypes.source=extract",),
}
FRESH = "stream, every {} steps"
FRESH_ARMS: dict[str, tuple[str, ...]] = {
    FRESH: ("prototypes.source=stream", "prototypes.refresh_steps={}"),
    f"{FRESH}, trained rows": (
        "prototypes.source=stream",
        "prototypes.refresh_steps={}",
        "prototypes.refresh_rows=trained",
        "clustering.warm_iterations=1",
    ),
}
# open_clip_train does not know our architecture, and torchvision's public wheel needs a cure before it.
OPEN_CLIP_MAIN = """
import sys
from protoclip.encoders.torchvision_workaround import make_torchvision_importable
make_torchvision_importable()
from protoclip.encoders.registry import register_architectures
from open_clip_train.main import main
register_architectures()
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Setting:
    """What all candidates share."""

    model: str
    batch_size: int
    batches: int
    precision: str
    device: str
    workers: int
    passes: int
    skipped_passes: int
    refresh_steps: int | None
    with_open_clip: bool

    @property
    def num_timed(self) -> int:
        """Pairs of the passes that count."""
        return (self.passes - self.skipped_passes) * self.num_pairs

    @property
    def arms(self) -> dict[str, tuple[str, ...]]:
        """Settings of ours, by name."""
        if self.refresh_steps is None:
            return ARMS
        every = self.refresh_steps
        fresh = {name.format(every): tuple(s.format(every) for s in of) for name, of in FRESH_ARMS.items()}
        return ARMS | fresh

    @property
    def num_pairs(self) -> int:
        return self.batch_size * self.batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=3, help="batches in a pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures, in every candidate")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--skipped-passes", type=int, default=1, help="of these, the first that do not count")
    parser.add_argument("--refresh-steps", type=int, help="also prototypes that are made anew every so many steps")
    parser.add_argument("--without-open-clip", action="store_true")
    parser.add_argument("--result", type=Path, help="Markdown file; its section on the model is replaced")
    arguments = parser.parse_args()
    names = ("model", "batch_size", "batches", "precision", "device", "workers", "passes", "skipped_passes")
    setting = Setting(
        **{name: getattr(arguments, name) for name in names},
        refresh_steps=arguments.refresh_steps,
        with_open_clip=not arguments.without_open_clip,
    )
    rounds = [one_round(setting, number) for number in range(arguments.rounds)]
    text = report(setting, rounds)
    print(text)
    if arguments.result is not None:
        write_text(arguments.result, merged(arguments.result, setting, text))


def one_round(setting: Setting, number: int) -> dict[str, float]:
    """Milliseconds per pair of every candidate; each round begins with another one."""
    candidates: list[tuple[str, Callable[[Path], float]]] = [
        (name, lambda folder, settings=settings: ours(setting, folder, settings))  # type: ignore[misc]
        for name, settings in setting.arms.items()
    ]
    if setting.with_open_clip:
        candidates.append((OPEN_CLIP, lambda folder: theirs(setting, folder)))
    first = number % len(candidates)
    found = {}
    for name, measure in candidates[first:] + candidates[:first]:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(Path(folder)) * 1000
        print(f"round {number}: {name}: {found[name]:.2f} ms per pair", file=sys.stderr, flush=True)
    return found


def ours(setting: Setting, folder: Path, settings: tuple[str, ...]) -> float:
    """Seconds per pair of `protoclip train`."""
    rows = [{"image": picture, "text": text} for picture, text in some_pairs(setting.num_pairs)]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    common = (
        f'data.path=["{folder}/pairs.parquet"]',
        "data.cache_mb=0",
        f"model.name={setting.model}",
        *("augmentation.crop_scale=[0.9,1.0]", "augmentation.flip=0", "augmentation.jitter=0"),
        *("augmentation.grey=0", "augmentation.blur=0", "optim.clip_norm=10"),
        f"train.batch_size={setting.batch_size}",
        f"train.steps={setting.batches * setting.passes}",
        f"train.precision={setting.precision}",
        f"train.device={setting.device}",
        f"train.num_workers={setting.workers}",
        *("train.log_every_steps=1", "train.checkpoint_every_minutes=0"),
    )
    options = [part for value in (*common, *settings) for part in ("--set", value)]
    run([sys.executable, "-m", "protoclip", "train", "--out", str(folder / "run"), *options])
    steps = [line["seconds"] for line in read_metrics(folder / "run") if line["kind"] == "step"]
    return (steps[-1] - steps[setting.batches * setting.skipped_passes - 1]) / setting.num_timed


def theirs(setting: Setting, folder: Path) -> float:
    """Seconds per pair of open_clip's trainer on the same pictures as files."""
    lines = ["filepath\ttitle"]
    for number, (picture, text) in enumerate(some_pairs(setting.num_pairs)):
        (folder / f"{number}.webp").write_bytes(picture)
        lines += [f"{folder}/{number}.webp\t{text}"] * setting.passes
    (folder / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    options = {
        "train-data": folder / "pairs.tsv",
        "dataset-type": "csv",
        "model": setting.model,
        "batch-size": setting.batch_size,
        "precision": {"fp32": "fp32", "bf16": "amp_bf16"}[setting.precision],
        "device": setting.device,
        "grad-clip-norm": 10,
        "epochs": 1,
        "workers": setting.workers,
        "log-every-n-steps": 1,
        "logs": "none",
    }
    command = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    said = run([sys.executable, "-c", OPEN_CLIP_MAIN, *command])
    times = [float(found) for found in re.findall(r"Batch \(t\): ([\d.]+)", said)]
    if len(times) != setting.batches * setting.passes:
        raise SystemExit(f"open_clip_train logged {len(times)} steps:\n{said[-2000:]}")
    return sum(times[setting.batches * setting.skipped_passes :]) / setting.num_timed


def some_pairs(count: int) -> list[tuple[bytes, str]]:
    """Pictures and labels of the bundled corpus, more than once where it is smaller."""
    pairs: Pairs = load_pairs(demo_config().data)
    return [(pairs.read_image(row % len(pairs)), pairs.texts[row % len(pairs)][0]) for row in range(count)]


def run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def utilisation(setting: Setting, ms_per_pair: float, peak: float) -> float:
    """Operations of the model in a second, as a part of `peak`."""
    from torch.utils.flop_counter import FlopCounterMode

    module = create_module(setting.model).eval()
    size = module.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.encode_image(torch.zeros(1, 3, height, width))
        module.encode_text(torch.zeros(1, module.context_length, dtype=torch.int64))
    return 3 * counter.get_total_flops() / (ms_per_pair / 1000) / peak


def matrix_product_peak(setting: Setting, size: int = 4096) -> float:
    """Operations in a second of a product of two square matrices, the best of five."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[setting.precision]
    left, right = (torch.randn(size, size, dtype=dtype, device=setting.device) for _ in "ab")
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        product = left @ right
        product[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])


def report(setting: Setting, rounds: list[dict[str, float]]) -> str:
    """A Markdown section: medians, and the median of each round's ratio to plain CLIP."""
    lines = [
        f"## {setting.model}, batch {setting.batch_size}, {setting.precision}, {setting.device}{_fresh(setting)}",
        f"{setting.num_pairs} pairs in an episode, the last {setting.passes - setting.skipped_passes} of "
        f"{setting.passes} passes, {len(rounds)} rounds, "
        f"{torch.get_num_threads()} of {os.cpu_count()} cores, torch {version('torch')}, "
        f"open_clip {version('open_clip_torch')}, Python {platform.python_version()}.",
        "",
        "| candidate | ms per pair, median | least to most | by plain CLIP, median of rounds | utilisation |",
        "|---|---|---|---|---|",
    ]
    peak = matrix_product_peak(setting)
    for name in rounds[0]:
        times = [found[name] for found in rounds]
        ratio = statistics.median(found[name] / found[PLAIN] for found in rounds)
        middle = statistics.median(times)
        used = f"{100 * utilisation(setting, middle, peak):.0f} %"
        lines.append(f"| {name} | {middle:.2f} | {min(times):.2f} to {max(times):.2f} | {ratio:.3f} | {used} |")
    lines += [
        "",
        f"A matrix product reaches {peak / 1e12:.2f} TFLOP/s.",
        "",
        f"Rounds: `{json.dumps([{k: round(v, 3) for k, v in found.items()} for found in rounds])}`",
        "",
    ]
    return "\n".join(lines)


def _fresh(setting: Setting) -> str:
    return "" if setting.refresh_steps is None else f", prototypes every {setting.refresh_steps} steps"


def merged(path: Path, setting: Setting, section: str) -> str:
    """The file with the section added, or in the place of an older one with the same heading."""
    before = path.read_text(encoding="utf-8") if path.exists() else TITLE
    parts = re.split(r"(?m)^(?=## )", before)
    kept = [part for part in parts if not part.startswith(section.splitlines()[0] + "\n")]
    return "\n".join(part.strip() + "\n" for part in [*kept, section])


if __name__ == "__main__":
    main()
