"""Kills training at random moments, resumes it, and shows that the weights are those of an undisturbed run.

    make sudden-death

Four settings take turns: prototypes extracted and streamed, one rank and two. Of each there is one undisturbed
run. A victim is started afresh, one of its processes gets SIGKILL up to half a second after a step that is drawn
evenly, the moments before the first and after the last included, and `--resume` brings it to its end. Model,
heads, prototypes and the clusters of an external teacher must then be the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from subprocess import Popen

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from protoclip.contract.files import write_text
from protoclip.data.table import load_pairs
from protoclip.demo.run import demo_config
from protoclip.runs.metrics import METRICS_FILE, read_metrics

SETTINGS = (("stream", 1), ("extract", 2), ("extract", 1), ("stream", 2))
FILES = ("model.safetensors", "heads.safetensors", "prototypes.safetensors", "teacher_labels.safetensors")
BATCH, PROTOTYPES = 32, 24

Hashes = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs; it is made anew")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--pairs", type=int, default=384, help="of which a quarter is held out")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    write_pairs(arguments.out / "pairs.parquet", arguments.pairs)
    np.save(arguments.out / "teacher.npy", np.random.default_rng(0).normal(size=(arguments.pairs, 8)))
    draw, references, rows = random.Random(arguments.seed), {}, []
    for number in range(arguments.kills):
        setting = SETTINGS[number % len(SETTINGS)]
        if setting not in references:
            references[setting] = undisturbed(arguments.out, *setting, arguments.steps)
        rows.append(killed(arguments.out, *setting, arguments.steps, references[setting], draw, number))
        print(rows[-1], flush=True)
    if arguments.result is not None:
        write_text(arguments.result, report(rows, arguments.steps, references))


def write_pairs(path: Path, count: int) -> None:
    pairs = load_pairs(demo_config().data)
    rows = [{"image": pairs.read_image(row), "text": pairs.texts[row][0]} for row in range(count)]
    parquet.write_table(pa.Table.from_pylist(rows), path)


def command(out: Path, run: Path, source: str, ranks: int, steps: int) -> list[str]:
    settings = (
        f'data.path=["{out}/pairs.parquet"]',
        "model.name=protoclip-mini-48",
        "model.head.hidden_dim=64",
        f"prototypes.source={source}",
        f"clustering.num_prototypes={PROTOTYPES}",
        f"teacher.path={out}/teacher.npy",
        f"teacher.num_prototypes={PROTOTYPES}",
        f"train.batch_size={BATCH}",
        f"train.steps={steps}",
        *("train.num_workers=0", "train.checkpoint_every_steps=5", "train.device=cpu", "train.log_every_steps=1"),
        *("validation.fraction=0.25", "validation.every_steps=7", "optim.warmup_steps=10"),
    )
    options = [part for value in settings for part in ("--set", value)]
    parts = [sys.executable, "-m", "protoclip", "train", "--out", str(run), *options]
    return [*parts, *(("--ranks", str(ranks)) if ranks > 1 else ())]


def start(parts: list[str], log: Path) -> Popen[bytes]:
    with log.open("ab") as stream:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return Popen(parts, env=environment, stdout=stream, stderr=stream)


def undisturbed(out: Path, source: str, ranks: int, steps: int) -> Hashes:
    run = out / f"undisturbed_{source}_{ranks}"
    finish(command(out, run, source, ranks, steps), run.with_suffix(".log"))
    return hashes(run)


def finish(parts: list[str], log: Path) -> None:
    code = start(parts, log).wait(600)
    if code:
        raise SystemExit(f"exit code {code}:\n{log.read_text(errors='replace')[-3000:]}")


def killed(
    out: Path, source: str, ranks: int, steps: int, reference: Hashes, draw: random.Random, number: int
) -> str:
    """Kills one run and brings it to its end; returns its line of the table."""
    run = out / f"victim_{number:02d}"
    parts, log = command(out, run, source, ranks, steps), run.with_suffix(".log")
    step, delay_s = draw.randint(0, steps), draw.uniform(0, 0.5)
    process = start(parts, log)
    while process.poll() is None and steps_done(run) < step:
        time.sleep(0.02)
    time.sleep(delay_s)
    victim = draw.choice([process.pid, *children(process.pid)])
    if process.poll() is None:
        os.kill(victim, signal.SIGKILL)
    process.wait(120)
    wait_for_ranks(run)
    stood = last_step(run)
    if not (run / FILES[0]).exists():
        finish([*parts, "--resume"], log)
    if hashes(run) != reference:
        raise SystemExit(f"{run}: the weights differ from the undisturbed run's ({source}, {ranks} ranks)")
    kind = "a rank" if victim != process.pid else ("the launcher" if ranks > 1 else "the process")
    shutil.rmtree(run)
    return f"| {number + 1} | {source} | {ranks} | {kind} | {step} | {stood} | the same |"


def steps_done(run: Path) -> int:
    """Of those that stand in the metrics, which a run writes anew when it begins."""
    if not (run / METRICS_FILE).exists():
        return 0
    return max((int(line["step"]) for line in read_metrics(run)), default=0)


def children(pid: int) -> list[int]:
    """Process ids that `pid` has started and that still run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_for_ranks(run: Path) -> None:
    """Ranks whose launcher was killed save and end by themselves; nothing may write when the run is resumed."""
    until = time.monotonic() + 60
    while any(names(folder, run) for folder in Path("/proc").glob("[0-9]*")):
        if time.monotonic() > until:
            raise SystemExit(f"{run}: a rank still runs")
        time.sleep(0.2)


def names(folder: Path, run: Path) -> bool:
    try:
        return str(run).encode() in (folder / "cmdline").read_bytes()
    except OSError:
        return False


def last_step(run: Path) -> str:
    """Where the last checkpoint stood; finished runs need none."""
    if (run / FILES[0]).exists():
        return "finished"
    found = sorted((run / "checkpoints").glob("step_*"))
    return str(json.loads((found[-1] / "position.json").read_text())["step"]) if found else "none"


def hashes(run: Path) -> tuple[str, ...]:
    return tuple(hashlib.sha256((run / name).read_bytes()).hexdigest() for name in FILES)


def report(rows: list[str], steps: int, references: dict[tuple[str, int], Hashes]) -> str:
    shas = "; ".join(f"{source}, {ranks}: {found[0][:12]}" for (source, ranks), found in references.items())
    return "\n".join(
        [
            "# Training, killed at random moments",
            f"`make sudden-death`: {steps} steps of {BATCH} pairs, {PROTOTYPES} prototypes, a checkpoint every 5 "
            f"steps, a validation every 7, {time.strftime('%B %Y')}, {os.cpu_count()} cores, torch "
            f"{version('torch')}, Python {platform.python_version()}. Compared are the bytes of model, heads, "
            "prototypes and teacher's clusters with those of an undisturbed run.",
            "",
            "| kill | prototypes | ranks | killed | after step | last checkpoint | final weights |",
            "|---" * 7 + "|",
            *rows,
            "",
            f"SHA-256 of the undisturbed models: {shas}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
