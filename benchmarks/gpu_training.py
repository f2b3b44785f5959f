"""Training on a GPU: losses in float32 and bf16 beside a CPU's, NCCL, kill and resume, both backends of K-means.

    python benchmarks/gpu_training.py --result benchmarks/gpu_training_h100_202611.md

All trainings are short forms of the demo's, on the bundled corpus. The two ranks of NCCL share one GPU: each is
told that it is a host of its own (NCCL_HOSTID), so that its collectives go through a socket. It shows that they
are right, and nothing about their speed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import signal
import socket
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired

import faiss
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protoclip.config.schema import ClusteringConfig
from protoclip.contract.files import write_text
from protoclip.prototypes.clustering import ClusteringResult, cluster
from protoclip.runs.metrics import read_metrics

STEPS, RANK_STEPS, LIMIT_S = 120, 8, 90
WEIGHTS = ("model.safetensors", "heads.safetensors", "prototypes.safetensors", "teacher_labels.safetensors")
SHORT = (
    "train.log_every_steps=10",
    "episode.repeats=1",
    "train.checkpoint_every_steps=10",
    "optim.warmup_steps=20",
)
CPU, FP32, BF16 = (
    ("train.device=cpu",),
    ("train.device=cuda",),
    ("train.device=cuda", "train.precision=bf16"),
)


def main() -> None:
    """Every part by itself, so that one that fails does not hide the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: nothing was measured")
    text = heading()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.parts:
            try:
                text += f"\n## {name}\n{PARTS[name](Path(folder) / name)}\n"
            except (RuntimeError, OSError, KeyError, ValueError, TimeoutExpired) as error:
                text += f"\n## {name}\nFailed: {str(error)[-3000:]}\n"
            print(text, flush=True)
            if arguments.result is not None:
                write_text(arguments.result, text)


def heading() -> str:
    facts = torch.cuda.get_device_properties(0)
    return (
        "# Training on a GPU\n"
        f"`python benchmarks/gpu_training.py` on one {facts.name}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}, faiss {faiss.__version__} "
        f"with {faiss.get_num_gpus()} GPU, open_clip {version('open_clip_torch')}, "
        f"Python {platform.python_version()}.\n"
    )


def command(run: Path, settings: tuple[str, ...], resume: bool = False) -> list[str]:
    config = str(files("protoclip") / "demo" / "demo.toml")
    options = [part for value in (*SHORT, *settings) for part in ("--set", value)]
    return [
        *(sys.executable, "-m", "protoclip", "train", config, "--out", str(run), *options),
        *(["--resume"] if resume else []),
    ]


def train(run: Path, settings: tuple[str, ...], resume: bool = False) -> dict[int, dict[str, float]]:
    """The lines of the run's steps by step."""
    finish(Popen(command(run, settings, resume), stdout=PIPE, stderr=STDOUT, text=True))
    return {line["step"]: line for line in read_metrics(run) if line["kind"] == "step"}


def finish(process: Popen[str]) -> None:
    try:
        said = process.communicate(timeout=LIMIT_S)[0]
    except TimeoutExpired:
        # With PYTHONFAULTHANDLER it says where it waits.
        process.send_signal(signal.SIGABRT)
        said = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {said[-2500:]}")


def losses(folder: Path) -> str:
    """The same steps on the CPU, and on the GPU in both precisions."""
    table = [
        "| prototypes | where | loss of step 1 | of step 10 | of step 60 | of the last | pairs per s, median |"
    ]
    table.append("|---|---|---|---|---|---|---|")
    for source in ("extract", "stream"):
        for name, settings in (("CPU, fp32", CPU), ("GPU, fp32", FP32), ("GPU, bf16", BF16)):
            chosen = (*settings, f"train.steps={STEPS}", f"prototypes.source={source}", "train.log_every_steps=1")
            lines = train(folder / f"{source} {name}", chosen)
            rate = statistics.median(line["pairs_per_s"] for line in lines.values())
            shown = " | ".join(f"{lines[step]['loss']:.6f}" for step in (1, 10, 60, STEPS))
            table.append(f"| {source} | {name} | {shown} | {rate:,.0f} |")
    return "\n".join(table)


def nccl(folder: Path) -> str:
    """Two hosts that are one GPU, against one process, in both precisions."""
    lines = [
        "| precision | largest difference of a loss, relative | last loss: one process, two ranks |",
        "|---|---|---|",
    ]
    for name, settings in (("fp32", FP32), ("bf16", BF16)):
        chosen = (
            *settings,
            f"train.steps={RANK_STEPS}",
            "train.sync_batch_norm=true",
            "episode.size=768",
            "data.group_column=none",
            "clustering.backend=lloyd",
            "train.log_every_steps=1",
        )
        one = train(folder / name, chosen)
        two = on_two_ranks(folder / f"{name} two", chosen)
        worst = max(abs(two[step]["loss"] / one[step]["loss"] - 1) for step in one)
        lines.append(f"| {name} | {worst:.1e} | {one[RANK_STEPS]['loss']:.5f}, {two[RANK_STEPS]['loss']:.5f} |")
    return "\n".join(lines)


def on_two_ranks(run: Path, settings: tuple[str, ...]) -> dict[int, dict[str, float]]:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    world |= {
        "NCCL_SOCKET_IFNAME": "lo",
        "NCCL_P2P_DISABLE": "1",
        "NCCL_SHM_DISABLE": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    started = [
        Popen(
            command(run, settings),
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
            env=os.environ | world | {"RANK": str(rank), "NCCL_HOSTID": f"host{rank}"},
        )
        for rank in range(2)
    ]
    try:
        for process in started:
            finish(process)
    finally:
        for process in started:
            process.kill()
    return {line["step"]: line for line in read_metrics(run) if line["kind"] == "step"}


def resumed(folder: Path) -> str:
    """SIGKILL after a logged step, then `--resume`: which of the files are those of an undisturbed run."""
    lines = ["| precision | two undisturbed runs | killed and resumed |", "|---|---|---|"]
    for name, settings in (("fp32", FP32), ("bf16", BF16)):
        chosen = (*settings, f"train.steps={STEPS}")
        first, again, victim = (folder / f"{name} {which}" for which in ("first", "again", "victim"))
        train(first, chosen)
        train(again, chosen)
        kill_after(victim, chosen, step=60)
        train(victim, chosen, resume=True)
        lines.append(f"| {name} | {alike(first, again)} | {alike(first, victim)} |")
    return "\n".join(lines)


def kill_after(run: Path, settings: tuple[str, ...], step: int) -> None:
    process = Popen(command(run, settings), stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
    while process.poll() is None:
        known = read_metrics(run) if (run / "metrics.jsonl").exists() else []
        if any(line["kind"] == "step" and line["step"] >= step for line in known):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.02)
    raise RuntimeError(f"ended with {process.returncode} before step {step}")


def alike(one: Path, other: Path) -> str:
    differing = [name for name in WEIGHTS if (one / name).exists() and digest(one / name) != digest(other / name)]
    return "the same bytes" if not differing else f"differ: {', '.join(differing)}"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def k_means(folder: Path) -> str:
    """faiss on the GPU and Lloyd's iterations, on features that lie on the GPU; runs in turns."""
    lines = [
        "| points | K | iterations | faiss, s | Lloyd, s | inertia, Lloyd by faiss |",
        "|---|---|---|---|---|---|",
    ]
    for rows, clusters in ((50_000, 2_000), (200_000, 20_000)):
        draw = torch.Generator("cuda").manual_seed(0)
        points = normalize(torch.randn(rows, 128, generator=draw, device="cuda"), dim=1)
        taken: dict[str, list[float]] = {"faiss": [], "lloyd": []}
        inertia = {}
        for turn in range(4):
            for backend, seconds in taken.items():
                found, last = timed(points, clusters, backend)
                inertia[backend] = found.inertia
                seconds += [last] if turn else []
        shown = " | ".join(f"{statistics.median(seconds):.2f}" for seconds in taken.values())
        ratio = inertia["lloyd"] / inertia["faiss"]
        lines.append(f"| {rows:,} × 128 | {clusters:,} | 20 | {shown} | {ratio:.4f} |")
    return "\n".join(lines)


def timed(points: Tensor, clusters: int, backend: str) -> tuple[ClusteringResult, float]:
    config = ClusteringConfig.model_validate({"backend": backend, "num_iterations": 20, "num_restarts": 1})
    torch.cuda.synchronize()
    started = time.perf_counter()
    found = cluster(points, clusters, config, seed=1)
    torch.cuda.synchronize()
    return found, time.perf_counter() - started


PARTS = {"losses": losses, "nccl": nccl, "resumed": resumed, "k_means": k_means}

if __name__ == "__main__":
    main()
