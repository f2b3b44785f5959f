"""The doctor's rows, from facts that this machine may not offer, and checks that go wrong."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from protoclip.contract.install import install_command
from protoclip.distributed.host_memory import GIB
from protoclip.doctor import Check, Diagnosis, Group, State, diagnose, probing
from protoclip.doctor.machine import check_disk, check_memory, check_shared_memory
from protoclip.doctor.packages import check_base, check_bundle, check_conflicts, check_extra, check_python
from protoclip.doctor.probes import openvino_probe
from protoclip.doctor.requirements import Requirement, fits, our_requirements, requirements_of

CPU_TORCH: dict[str, Any] = {"version": "2.13.0", "cuda": None, "threads": 2, "gpus": [], "bf16": False}


def test_a_check_that_raises_is_a_row_and_the_others_come() -> None:
    def explode() -> list[Check]:
        raise RuntimeError("undefined symbol:\n  cudnnBatch")

    good = Check("good", State.OK, "1.0")
    found = diagnose({"bad": explode, "good": lambda: [good]})
    assert [check.name for check in found.checks] == ["bad", "good"]
    assert found.checks[0].state is State.PROBLEM
    assert found.checks[0].found == "RuntimeError: undefined symbol: cudnnBatch"
    assert found.checks[1] == good
    assert not found.sound


def test_only_what_is_installed_and_broken_makes_it_unsound() -> None:
    missing = Check("faiss", State.MISSING, "not installed")
    taken = Check("ports", State.PROBLEM, "taken: 8000", group=Group.MACHINE)
    assert Diagnosis((missing, taken)).sound
    assert not Diagnosis((missing, taken, Check("torch", State.PROBLEM, "crashed"))).sound


def test_an_old_python_is_a_problem() -> None:
    assert check_python((3, 10), "3.10.2").state is State.PROBLEM
    assert check_python((3, 11), "3.11.0").state is State.OK


@pytest.mark.parametrize(
    ("installed", "bounds", "expected"),
    [
        ("2.13.0+cpu", ">=2.8", True),
        ("2.8", ">=2.8.0", True),
        ("2.7.9", ">=2.8", False),
        ("1.26.4", "<2", True),
        ("2.0.0", "<2", False),
        ("25.0.1", ">=16,<26", True),
        ("10.13", "", True),
    ],
)
def test_versions_within_bounds(installed: str, bounds: str, expected: bool) -> None:
    assert fits(installed, bounds) is expected


def test_our_requirements_are_those_of_our_metadata() -> None:
    found = our_requirements()
    assert {"numpy", "pillow", "tritonclient"} <= {part.name for part in requirements_of(None, found)}
    bundle = {part.name for part in requirements_of("cpu", found)}
    assert {"torch", "onnx", "faiss-cpu"} <= bundle
    assert "protoclip" not in bundle


def test_base_and_extras_name_what_is_missing_or_too_old() -> None:
    absent = Requirement("no-such-package", ">=1", None)
    old = Requirement("numpy", ">=999", None)
    assert check_base([absent, old]).state is State.PROBLEM
    assert "no-such-package is missing" in check_base([absent, old]).found
    extra = [Requirement("no-such-package", ">=1", "train"), Requirement("numpy", ">=1", "train")]
    row = check_extra("train", extra)
    assert (row.state, row.found) == (State.MISSING, "without no-such-package")
    assert row.advice == install_command("train")
    assert check_extra("train", [Requirement("numpy", ">=999", "train")]).state is State.PROBLEM
    unknown = check_extra("quantize", extra)
    assert (unknown.state, unknown.advice) == (State.MISSING, install_command("quantize"))


def test_a_bundle_that_is_not_whole_names_the_nearest() -> None:
    wanted = [Requirement("numpy", "", "cpu"), Requirement("no-such-package", "", "cpu")]
    wanted += [Requirement("nor-this", "", "gpu"), Requirement("no-such-package", "", "gpu")]
    row = check_bundle(wanted)
    assert (row.state, row.found) == (State.MISSING, "cpu lacks no-such-package")
    assert check_bundle([*wanted[:1], *wanted[2:]]).found == "cpu"


@pytest.mark.parametrize(
    ("installed", "word"),
    [
        ({"faiss-cpu": "1.15.1", "faiss-gpu": "1.7.2"}, "faiss-cpu and faiss-gpu"),
        ({"onnxruntime": "1.31", "onnxruntime-gpu": "1.31"}, "onnxruntime and onnxruntime-gpu"),
        ({"pyarrow": "26.0", "numpy": "1.26.4"}, "pyarrow 26.0"),
    ],
)
def test_packages_that_break_each_other(installed: dict[str, str], word: str) -> None:
    row = check_conflicts(installed.get)
    assert row.state is State.PROBLEM
    assert word in row.found
    assert row.advice


def test_packages_that_get_along() -> None:
    assert check_conflicts({"pyarrow": "26.0", "numpy": "2.3", "faiss-cpu": "1.15"}.get).state is State.OK


def test_little_memory_shared_memory_or_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_memory(8 * GIB).state is State.OK
    assert check_memory(GIB).state is State.PROBLEM
    assert check_memory(None).state is State.OK
    usage = type("Usage", (), {"free": 64 * 2**20})
    monkeypatch.setattr("protoclip.doctor.machine.shutil.disk_usage", lambda folder: usage)
    assert "--shm-size" in check_shared_memory(tmp_path).advice
    assert check_disk(tmp_path).state is State.PROBLEM
    assert check_shared_memory(tmp_path / "none").state is State.OK


def test_gpu_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = {"name": "H100", "memory_bytes": 80 * GIB}
    row = probing.read_torch({**CPU_TORCH, "cuda": "13.0", "gpus": [gpu], "bf16": True})[1]
    assert (row.state, row.found) == (State.OK, "H100 (80 GiB); train.precision='bf16' works")
    monkeypatch.setattr(probing, "_GPU_FILES", (str(tmp_path / "absent"),))
    assert probing.read_torch(CPU_TORCH)[1].state is State.MISSING
    monkeypatch.setattr(probing, "_GPU_FILES", (str(tmp_path),))
    assert "CPU build" in probing.read_torch(CPU_TORCH)[1].found
    assert probing.read_torch({**CPU_TORCH, "cuda": "13.0"})[1].state is State.PROBLEM


@pytest.mark.parametrize(
    ("version", "shown"),
    [("10.16.0.42", "26.03"), ("10.16.1", "26.05"), ("11.1.0.5", "26.07"), ("10.14.1", "no known")],
)
def test_tensorrt_names_its_triton_release(version: str, shown: str) -> None:
    [row] = probing.read_tensorrt({"version": version, "builds": True})
    assert shown in row.found
    assert row.state is State.OK


def test_a_tensorrt_that_can_not_build_says_why() -> None:
    [old] = probing.read_tensorrt({"version": "10.12.1", "builds": True})
    assert (old.state, old.found) == (State.PROBLEM, "10.12.1 is too old, 10.13 is needed")
    [idle] = probing.read_tensorrt({"version": "10.16.0", "builds": False})
    assert (idle.state, idle.group) == (State.MISSING, Group.MACHINE)
    assert "without an NVIDIA GPU" in idle.found
    assert "--builder tensorrt_rtx" in idle.advice
    [old] = probing.read_tensorrt_rtx({"version": "1.6.0", "builds": True})
    assert (old.state, old.found) == (State.PROBLEM, "1.6.0 is too old, 1.7 is needed")
    [broken] = probing.read_tensorrt_rtx({"version": "1.7.0", "builds": False})
    assert broken.state is State.PROBLEM


def test_the_oldest_tensorrt_is_the_exporters() -> None:
    from export.plans.package import _TRAITS

    assert _TRAITS["tensorrt"].oldest == probing.OLDEST_TENSORRT
    assert _TRAITS["tensorrt_rtx"].oldest == probing.OLDEST_TENSORRT_RTX


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="it comes for Linux on x86-64 only"
)
def test_openvino_is_probed_for_real() -> None:
    [row] = probing.probed_checks()["openvino"]()
    assert row.state is State.OK
    assert row.found == probing.read_openvino(openvino_probe())[0].found
    assert "no bf16 on this processor" in probing.read_openvino({"version": "2026.4.1", "bf16": False})[0].found


def test_tensorrt_rtx_is_probed_for_real() -> None:
    [row] = probing.probed_checks()["tensorrt_rtx"]()
    assert row.state is State.OK, row
    assert row.found.startswith(version("tensorrt-rtx"))


def test_wrong_results_are_problems() -> None:
    faiss = {"version": "1.15", "gpu_build": False, "num_gpus": 0, "nearest": 2}
    assert probing.read_faiss(faiss)[0].state is State.PROBLEM
    assert probing.read_faiss({**faiss, "nearest": 1})[0].state is State.OK
    world = {"nccl": False, "gloo": True, "sum": 3.0}
    assert probing.read_collectives(world)[0].state is State.PROBLEM
    assert probing.read_collectives({**world, "sum": 2.0})[0].state is State.OK
    assert probing.read_collectives({"nccl": False, "gloo": False, "sum": None})[0].state is State.MISSING


@pytest.fixture
def broken_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A faiss of ours before the real one on the path of every process that starts from here."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    return tmp_path / "faiss.py"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('libcublas.so.12: cannot open')", "ImportError: libcublas.so.12: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed: SIGSEGV"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_a_package_that_breaks_hangs_or_crashes_is_a_row(
    broken_faiss: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    broken_faiss.write_text(source)
    monkeypatch.setattr(probing.probe, "__defaults__", (1.0 if "sleep" in source else 60.0,))
    [row] = diagnose({"faiss": probing.probed_checks()["faiss"]}).checks
    assert row.state is State.PROBLEM
    assert row.found == reason


def test_a_package_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "find_spec", lambda name: None)
    [row] = probing.probed_checks()["tensorrt"]()
    assert (row.state, row.found) == (State.MISSING, "not installed")
