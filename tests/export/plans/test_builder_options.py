"""What can be asked of a build, how a batch finds its profile, and what stands between builder and progress."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.plans.callbacks import Phases, make_log, one_line
from export.plans.options import BuildOptions, Profile, parse_profile, profile_for
from export.plans.package import Builder, check_options, driver_version, load_builder
from protoclip.contract.errors import ConfigError

API = SimpleNamespace(ComputeCapability=SimpleNamespace(SM75=0, SM120=1, NONE=2))
TENSORRT, RTX = Builder("tensorrt", "10.16.0", API), Builder("tensorrt_rtx", "1.7.1", API)


@pytest.mark.parametrize("text", ["", "8", "1:8", "1:8:32:64", "1:a:32", "8:1:32", "0:1:2", "1:8:4", "-1:1:1"])
def test_a_profile_that_is_none_is_one_clear_line(text: str) -> None:
    with pytest.raises(ConfigError, match="for example 1:8:32"):
        parse_profile(text)


def test_a_profile_reads_as_it_is_written() -> None:
    assert parse_profile("2:8:32") == Profile(2, 8, 32)
    assert str(Profile(2, 8, 32)) == "2:8:32"


@pytest.mark.parametrize(("batch", "place"), [(1, 0), (2, 1), (8, 1), (20, 1), (21, 2), (32, 2), (64, 2)])
def test_a_batch_takes_the_profile_with_the_nearest_optimum(batch: int, place: int) -> None:
    assert profile_for([Profile(1, 1, 1), Profile(2, 8, 32), Profile(16, 32, 64)], batch) == place


@pytest.mark.parametrize("batch", [0, 3, 9])
def test_a_profile_smaller_than_the_batch_is_one_clear_line(batch: int) -> None:
    with pytest.raises(ConfigError, match=f"batch of {batch} fits none of the profiles 1:1:1, 4:8:8: build"):
        profile_for([Profile(1, 1, 1), Profile(4, 8, 8)], batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profiles": ()}, "no optimisation profile: give at least one"),
        ({"workspace_bytes": 0}, "workspace of 0 bytes"),
        ({"level": 6}, "builder level 6: use 0 to 5"),
        ({"hardware_compatibility": "all"}, "'all': use one of none, ampere_plus, same_compute_capability"),
        ({"compute_capabilities": ("sm_89",)}, "'sm_89': write it like 8.9"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        BuildOptions(**options)


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (RTX, {"timing_cache": Path("timings")}, "tensorrt_rtx keeps no timing cache"),
        (RTX, {"hardware_compatibility": "ampere_plus"}, "tensorrt_rtx has no hardware compatibility"),
        (RTX, {"compute_capabilities": ("9.0",)}, "tensorrt_rtx 1.7.1 can't build for 9.0: it knows 7.5, 12.0"),
        (TENSORRT, {"compute_capabilities": ("8.9",)}, "tensorrt builds for the GPU it runs on"),
    ],
)
def test_what_a_builder_lacks_is_one_clear_line(builder: Builder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_options(BuildOptions(**options), builder)


def test_what_a_builder_has_is_allowed() -> None:
    check_options(BuildOptions(timing_cache=Path("t"), hardware_compatibility="ampere_plus"), TENSORRT)
    check_options(BuildOptions(compute_capabilities=("7.5", "12.0")), RTX)


def test_no_tensorrt_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.plans.package.import_module", _raising(_absent))
    with pytest.raises(ConfigError, match=r"^tensorrt not installed: pip install 'tensorrt>=10.13'$"):
        load_builder("tensorrt")
    with pytest.raises(
        ConfigError, match=r"^tensorrt and tensorrt_rtx not installed: .* or pip install .*\[rtx\]"
    ):
        load_builder()


def test_a_broken_tensorrt_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {
        "libnvinfer.so.10: cannot\nopen": lambda name: ImportError("libnvinfer.so.10: cannot\nopen"),
        "No module named 'tensorrt_libs'": lambda name: ModuleNotFoundError(
            "No module named 'tensorrt_libs'", name="tensorrt_libs"
        ),
    }
    for reason, error in errors.items():
        monkeypatch.setattr("export.plans.package.import_module", _raising(error))
        with pytest.raises(
            ConfigError, match=f"tensorrt is installed but can't be loaded: {' '.join(reason.split())}"
        ):
            load_builder()


def test_an_unknown_builder_is_refused() -> None:
    with pytest.raises(ConfigError, match="'trt': use auto, tensorrt or tensorrt_rtx"):
        load_builder("trt")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Fri Mar", "535.161.08"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release", "580.95.05"),
        ("something else", None),
    ],
)
def test_the_driver_says_its_version(tmp_path: Path, line: str, version: str | None) -> None:
    assert driver_version(tmp_path / "none") is None
    (tmp_path / "version").write_text(f"{line}\nGCC version: 12.2.0\n")
    assert driver_version(tmp_path / "version") == version


def test_phases_show_what_moved_last() -> None:
    told: list[tuple[str, int, int]] = []
    phases = Phases("image.plan", lambda *step: told.append(step))
    phases.start("Building", 2)
    phases.start("Timing", 3)
    assert phases.step("Timing", 0)
    assert phases.step("Timing", 4)  # more than announced
    phases.finish("Timing")
    phases.finish("Building")
    assert told == [
        ("image.plan: Building", 0, 2),
        ("image.plan: Timing", 0, 3),
        ("image.plan: Timing", 1, 3),
        ("image.plan: Timing", 5, 5),
        ("image.plan: Timing", 3, 3),
        ("image.plan: Building", 2, 2),
    ]


def test_an_interruption_is_kept_and_stops_the_builder() -> None:
    calls = []

    def interrupted(what: str, done: int, total: int) -> None:
        calls.append(done)
        raise KeyboardInterrupt

    phases = Phases("image.plan", interrupted)
    phases.start("Timing", 3)
    assert not phases.step("Timing", 0)
    assert isinstance(phases.error, KeyboardInterrupt)
    assert calls == [0]


def test_the_log_keeps_errors_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    log = make_log(SimpleNamespace(ILogger=type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0})))
    assert log.take_error() is None
    for severity, message in ((2, "a warning"), (1, "first\nerror"), (1, "second")):
        log.log(severity, message)
    assert log.take_error() == "first error"
    assert log.take_error() is None
    assert capfd.readouterr() == ("", "")


def test_reasons_lose_the_places_in_source_files() -> None:
    assert one_line("Usage Error (no output. In validate at /_src/network.cpp:3810)") == "Usage Error (no output)"
    assert len(one_line("x" * 1000)) == 300


def _absent(name: str) -> Exception:
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


def _raising(error: Any) -> Any:
    def import_module(name: str) -> Any:
        raise error(name)

    return import_module
