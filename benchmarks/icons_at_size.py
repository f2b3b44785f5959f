"""The whole way at the paper's size on real pictures: an episode of 200,000 pairs, 20,000 prototypes, one process.

    make icons
    OMP_NUM_THREADS=1 python benchmarks/icons_at_size.py .cache/icons/parquet --out /tmp/icons

Trains a small ViT on all icons with the command `protoclip train`, kills it inside the second episode, resumes it,
exports the run, makes an index of all pictures and searches it. Prints a line of JSON for each part: seconds, CPU
seconds (user and system) and the largest resident size of its process. What is in --out already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL = "icons-tiny"
ARCHITECTURE = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 48, "patch_size": 12, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
BATCH, EPISODE, PROTOTYPES = 400, 200_000, 20_000
# The architecture is not one of those that are installed: the command is called where it has been named.
COMMAND = """
import sys
from protoclip.encoders.registry import open_clip
open_clip.add_model_config(sys.argv.pop(1))
from protoclip.cli import main
main()
"""
TEXTS = ("arrow left", "heart", "house", "bicycle", "calendar", "traffic light")
REPEATS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the Parquet folder of make icons, or its shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for run, artifact and index")
    parser.add_argument("--steps", type=int, default=700, help="500 are an episode: the first has no prototypes")
    parser.add_argument("--kill-at", type=int, default=560, help="step at which the training is killed")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{MODEL}.json").write_text(json.dumps(ARCHITECTURE))
    run, artifact, index = (given.out / name for name in ("run", "artifact", "icons.index"))
    if not (run / "model.safetensors").is_file():
        train(given.data, run, given.steps, given.kill_at)
    if not artifact.is_dir():
        whole(given.out, "export", "export", str(run), "--out", str(artifact), "--name", "icons")
    if not index.is_dir():
        words = ("build", given.data, str(index), "--split", "all", "--url", str(artifact), "--timeout", "600")
        whole(given.out, "index", "index", *words)
    search(index, artifact)


def train(data: str, run: Path, steps: int, kill_at: int) -> None:
    """Trains, kills at the first line of metrics from step `kill_at` on, and resumes to the end."""
    settings: dict[str, object] = {
        "model.name": json.dumps(MODEL),
        "data.train_split": '"all"',
        "validation.fraction": 0,
        "train.batch_size": BATCH,
        "train.num_workers": 0,
        "train.steps": steps,
        "train.checkpoint_every_steps": 50,
        "episode.size": EPISODE,
        "clustering.num_prototypes": PROTOTYPES,
        "clustering.num_restarts": 1,
    }
    words = ["train", "--data", data, "--out", str(run), "--quiet"]
    words += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    begun = ["--resume"] if (run / "checkpoints").is_dir() else []
    killed = watch(run, start(run.parent, "killed", *words, *begun), "killed", kill_at)
    resumed = watch(run, start(run.parent, "resumed", *words, "--resume"), "resumed")
    again = {line["step"]: line["loss"] for line in resumed}
    both = [(line["loss"], again[line["step"]]) for line in killed if line["step"] in again]
    tell(part="steps before the kill, done again", compared=len(both), equal=sum(a == b for a, b in both))


def watch(
    run: Path, process: subprocess.Popen[bytes], part: str, kill_at: int | None = None
) -> list[dict[str, Any]]:
    """Tells what each line of metrics took until the process ends or is killed; returns the lines of steps.

    Of an episode's line that is extraction and clustering, which take place between two lines of steps.
    """
    began, cpu, lines = time.monotonic(), 0.0, []
    for line in new_lines(run / "metrics.jsonl", process):
        now, spent = time.monotonic(), cpu_seconds(process.pid)
        if line["kind"] == "episode":
            kept = {
                name: value for name, value in line.items() if name.startswith(("inertia", "empty", "seconds"))
            }
            tell(part=part, at=line["step"], **kept, cpu_since_last_line=round(spent - cpu, 1))
        else:
            lines.append(line)
            kept = {name: line[name] for name in ("loss", "loss_clip", "loss_proto", "data_wait_s")}
            tell(part=part, step=line["step"], **kept, seconds=round(now - began, 1), cpu_s=round(spent, 1))
        cpu = spent
        if kill_at is not None and line["step"] >= kill_at:
            process.send_signal(signal.SIGKILL)
            kill_at = None
    ended(process, part, began, right=-signal.SIGKILL if part == "killed" else 0)
    return lines


def new_lines(path: Path, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Whole lines of steps and episodes that are added to the file while the process runs."""
    at = path.stat().st_size if path.is_file() else 0
    while True:
        is_over = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if path.is_file():
            at = min(at, path.stat().st_size)  # lines after the checkpoint are taken back
            with path.open("rb") as stream:
                stream.seek(at)
                text = stream.read()
            whole_lines = text[: text.rfind(b"\n") + 1]
            at += len(whole_lines)
            for line in map(json.loads, whole_lines.splitlines()):
                if line["kind"] in ("step", "episode"):
                    yield line
        if is_over:
            return
        time.sleep(0.5)


def whole(out: Path, part: str, *words: str) -> None:
    began = time.monotonic()
    ended(start(out, part, *words), part, began)


def start(out: Path, part: str, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", COMMAND, str(out / f"{MODEL}.json"), *words]
    with (out / f"{part}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def ended(process: subprocess.Popen[bytes], part: str, began: float, right: int = 0) -> None:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != right:
        raise SystemExit(f"{part} ended with {process.returncode}: see {part}.log")
    seconds = round(time.monotonic() - began, 1)
    cpu = round(usage.ru_utime + usage.ru_stime, 1)
    tell(part=part, exit=process.returncode, seconds=seconds, cpu_s=cpu, peak_mb=usage.ru_maxrss // 1024)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def search(index: Path, artifact: Path) -> None:
    """Searches by text and by a picture, here, with the artifact in this process."""
    import resource

    from protoclip import Client, Index

    began, cpu = time.monotonic(), time.process_time()
    with Client(str(artifact)) as client:
        opened = Index.open(index, client)
        spent = {"seconds": round(time.monotonic() - began, 2), "cpu_s": round(time.process_time() - cpu, 2)}
        tell(part="open index and artifact", entries=len(opened), dim=opened.dim, **spent)
        vectors = client.embed_texts(list(TEXTS))
        for text, hits in zip(TEXTS, opened.search(vectors, k=5), strict=True):
            tell(part="search", text=text, hits=[f"{hit.id} {hit.score:.3f}" for hit in hits])
        times = []
        for number in range(REPEATS):
            at = time.perf_counter()
            opened.search(vectors[number % len(vectors)], k=10)
            times.append(time.perf_counter() - at)
    ms = {"median_ms": statistics.median(times), "p95_ms": sorted(times)[REPEATS * 95 // 100]}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    tell(
        part="search, one query",
        repeats=REPEATS,
        **{k: round(v * 1000, 2) for k, v in ms.items()},
        peak_mb=peak_mb,
    )


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
