"""Runs the probes, each in a process of its own with a time limit, and makes rows of their results."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from protoclip.contract.install import install_command

from .checks import Check, Group, State
from .requirements import release

TIME_LIMIT_S = 60.0
OLDEST_TENSORRT, OLDEST_TENSORRT_RTX = (10, 13), (1, 7)
_GPU_FILES = ("/dev/nvidia0", "/dev/dxg")
# The TensorRT version in each release of Triton's container: a plan runs with no other version.
_TRITON_RELEASES = {
    (10, 16, 0): "26.03",
    (10, 16, 1): "26.05",
    (11, 0): "26.06",
    (11, 1): "26.07",
    (11, 2, 1): "26.08",
}


class ProbeError(Exception):
    """A probe ended without a result; the message is one line."""


def probed_checks() -> Mapping[str, Callable[[], Sequence[Check]]]:
    """The checks of this module, by name."""
    return {
        "protoclip": lambda: _probed("protoclip", "", read_versions("protoclip")),
        "pyarrow": lambda: _probed("pyarrow", "search", read_versions("pyarrow")),
        "torch": lambda: _probed("torch", "train", read_torch),
        "collectives": lambda: _probed("collectives", "train", read_collectives, module="torch"),
        "torchvision": lambda: _probed("torchvision", "train", read_torchvision),
        "onnx": lambda: _probed("onnx", "export", read_versions("onnx")),
        "faiss": lambda: _probed("faiss", "cpu", read_faiss),
        "onnxruntime": lambda: _probed("onnxruntime", "cpu", read_onnxruntime),
        "openvino": lambda: _probed("openvino", "openvino", read_openvino),
        "tensorrt": lambda: _probed("tensorrt", "gpu", read_tensorrt),
        "tensorrt_rtx": lambda: _probed("tensorrt_rtx", "rtx", read_tensorrt_rtx),
    }


def probe(name: str, time_limit_s: float = TIME_LIMIT_S) -> dict[str, Any]:
    """The result of a probe.

    Raises:
        ProbeError: it took too long, crashed, or failed; with the reason.
    """
    # -P: a file called torch.py in the working directory must not be imported instead of the package.
    command = [sys.executable, "-P", "-m", "protoclip.doctor.probes", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=time_limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer within {time_limit_s:.0f} s") from None
    if done.returncode < 0:
        raise ProbeError(f"crashed: {_signal_name(-done.returncode)}")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ProbeError(_last_error(lines))
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def read_versions(name: str) -> Callable[[dict[str, Any]], list[Check]]:
    """A reader that makes one row, with the version, of a successful probe."""
    return lambda facts: [Check(name, State.OK, f"{facts['version']} comes up")]


def read_torch(facts: dict[str, Any]) -> list[Check]:
    """Rows for torch and the GPU."""
    build = f"built for CUDA {facts['cuda']}" if facts["cuda"] else "CPU build"
    torch = Check("torch", State.OK, f"{facts['version']}, {build}, {facts['threads']} threads")
    return [torch, _gpu(facts)]


def read_collectives(facts: dict[str, Any]) -> list[Check]:
    """A row for the collective backends of distributed training."""
    built = [name for name in ("nccl", "gloo") if facts[name]]
    if not built:
        return [Check("collectives", State.MISSING, "torch was built without", "train on one process")]
    if facts["gloo"] and facts["sum"] != 2.0:
        return [Check("collectives", State.PROBLEM, f"gloo summed 1 + 1 to {facts['sum']}", "install torch anew")]
    note = "" if facts["nccl"] else "; NCCL comes with CUDA builds of torch"
    return [Check("collectives", State.OK, ", ".join(built) + note)]


def read_torchvision(facts: dict[str, Any]) -> list[Check]:
    """A row for torchvision and open_clip."""
    cured = ", cured: its own library doesn't fit this torch" if facts["cured"] else ""
    return [Check("torchvision", State.OK, f"{facts['version']}{cured}; open_clip {facts['open_clip']}")]


def read_faiss(facts: dict[str, Any]) -> list[Check]:
    """A row for the search library."""
    build = f"GPU build, {facts['num_gpus']} GPUs" if facts["gpu_build"] else "CPU build"
    if facts["nearest"] != 1:
        return [Check("faiss", State.PROBLEM, f"{facts['version']}, finds wrong neighbours", "install faiss anew")]
    return [Check("faiss", State.OK, f"{facts['version']}, {build}")]


def read_onnxruntime(facts: dict[str, Any]) -> list[Check]:
    """A row for ONNX Runtime."""
    shown = ", ".join(name.removesuffix("ExecutionProvider") for name in facts["providers"])
    return [Check("onnxruntime", State.OK, f"{facts['version']}: {shown}")]


def read_openvino(facts: dict[str, Any]) -> list[Check]:
    """A row for OpenVINO, and which engines it has on this processor."""
    half = (
        "bf16 on this processor" if facts["bf16"] else "no bf16 on this processor: engines in fp32 and int8_static"
    )
    return [Check("openvino", State.OK, f"{facts['version']}: {half}")]


def read_tensorrt(facts: dict[str, Any]) -> list[Check]:
    """A row for TensorRT, with the Triton release whose container runs its plans."""
    name, number = "tensorrt", release(facts["version"])
    if number < OLDEST_TENSORRT:
        return [_too_old(name, facts["version"], OLDEST_TENSORRT, "pip install 'tensorrt>=10.13'")]
    if not facts["builds"]:
        advice = "run `protoclip export --trt` on the GPU that serves, or build with --builder tensorrt_rtx"
        found = f"{facts['version']}: its builder does not start without an NVIDIA GPU and its driver"
        return [Check(name, State.MISSING, found, advice, Group.MACHINE)]
    fitting = [shown for prefix, shown in _TRITON_RELEASES.items() if number[: len(prefix)] == prefix]
    if fitting:
        return [Check(name, State.OK, f"{facts['version']}: its plans run on Triton {fitting[0]}")]
    advice = "use the TensorRT of Triton's container: a plan runs on the version that built it"
    return [Check(name, State.OK, f"{facts['version']}: no known Triton release brings it", advice)]


def read_tensorrt_rtx(facts: dict[str, Any]) -> list[Check]:
    """A row for TensorRT-RTX."""
    name, number = "tensorrt_rtx", release(facts["version"])
    if number < OLDEST_TENSORRT_RTX:
        return [_too_old(name, facts["version"], OLDEST_TENSORRT_RTX, install_command("rtx"))]
    if not facts["builds"]:
        return [Check(name, State.PROBLEM, f"{facts['version']}: its builder does not start", "install it anew")]
    found = f"{facts['version']}: builds plans with or without a GPU; Triton does not load them"
    return [Check(name, State.OK, found)]


def _too_old(name: str, version: str, oldest: tuple[int, int], install: str) -> Check:
    needed = ".".join(map(str, oldest))
    return Check(name, State.PROBLEM, f"{version} is too old, {needed} is needed", install)


def _probed(
    name: str, extra: str, read: Callable[[dict[str, Any]], list[Check]], module: str | None = None
) -> Sequence[Check]:
    install = install_command(extra or None)
    if extra == "gpu":
        install += " in an environment of its own, where there is a GPU"
    if find_spec(module or name) is None:
        return [Check(name, State.MISSING, "not installed", install)]
    try:
        return read(probe(name))
    except ProbeError as error:
        return [Check(name, State.PROBLEM, str(error), f"in a fresh environment: {install}")]


def _gpu(facts: dict[str, Any]) -> Check:
    if facts["gpus"]:
        shown = ", ".join(f"{gpu['name']} ({gpu['memory_bytes'] / 2**30:.0f} GiB)" for gpu in facts["gpus"])
        half = "train.precision='bf16' works" if facts["bf16"] else "no bf16"
        return Check("gpu", State.OK, f"{shown}; {half}", group=Group.MACHINE)
    if not any(Path(file).exists() for file in _GPU_FILES):
        return Check("gpu", State.MISSING, "no NVIDIA GPU on this machine", group=Group.MACHINE)
    if facts["cuda"]:
        advice = "compare nvidia-smi's CUDA version with torch's, and update the driver"
        return Check("gpu", State.PROBLEM, "there is one, but torch can't use it", advice, Group.MACHINE)
    advice = f"{install_command('gpu')} in a fresh environment"
    return Check("gpu", State.MISSING, "there is one, but this torch is a CPU build", advice, Group.MACHINE)


def _last_error(lines: Sequence[str]) -> str:
    # Long exception messages end in lines of explanation: the line with the exception's type names the cause.
    named = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception", "Warning"))]
    return (named or lines or ["failed without a message"])[-1]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
