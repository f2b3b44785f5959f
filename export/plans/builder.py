"""From an ONNX file to a TensorRT plan: one code path for `tensorrt` 10 and 11 and for `tensorrt_rtx`.

Precision is in the graph: networks are strongly typed, and no flag of the builder changes a data type.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ConfigError, ModelError, ProtoclipError
from protoclip.contract.files import atomic_path, sha256_file, write_bytes
from protoclip.contract.progress import Progress, silent

from .callbacks import Phases, make_log, make_monitor
from .network import NetworkFacts, ParsedNetwork, check_profile, describe_network, parse_network
from .options import BuildOptions, Profile
from .package import Builder, Gpu, check_options, driver_version, find_gpu


@dataclass(frozen=True)
class PlanFacts:
    """Description of a plan and of how it was built.

    Attributes:
        builder: "tensorrt" or "tensorrt_rtx"; neither loads the other's plans.
        gpu: the GPU it was built on, None where it was built without one.
        driver: version of its driver, None where the system doesn't report it.
        compute_capabilities: those it was built for, where the options named some.
        seconds: for parsing and building.
    """

    builder: str
    builder_version: str
    gpu: Gpu | None
    driver: str | None
    compute_capabilities: tuple[str, ...]
    profiles: tuple[Profile, ...]
    network: NetworkFacts
    seconds: float
    num_bytes: int
    sha256: str
    onnx_sha256: str


def build_plan(
    onnx_path: Path, plan_path: Path, options: BuildOptions, builder: Builder, progress: Progress = silent
) -> PlanFacts:
    """Builds `onnx_path` and writes the engine, and nothing else, to `plan_path`.

    `plan_path` is replaced atomically. An exception from `progress` stops the build.

    Raises:
        ConfigError: the builder does not support one of `options`, a profile doesn't fit the model, or the
            timing cache is not one of this GPU and version.
        ModelError: the file is not a model, or the builder can't build it; unsupported operators are
            named before the build starts.
        ProtoclipError: the disk is full, or a file can't be written.
    """
    check_options(options, builder)
    gpu, log, started = find_gpu(), make_log(builder.api), time.monotonic()
    session = _start(builder, log)
    parsed = parse_network(builder, session, log, onnx_path)
    network = describe_network(parsed.network)
    config = _configure(session, network, options, builder, onnx_path)
    cache = _cache_path(options, builder, gpu)
    _load_cache(config, cache)
    plan = _run(session, parsed, config, builder, Phases(plan_path.name, progress))
    if plan is None:
        raise ModelError(f"{onnx_path}: {builder} can't build it: {log.take_error() or 'it does not say why'}")
    seconds = time.monotonic() - started
    _save_cache(config, cache)
    with atomic_path(plan_path) as temporary:
        temporary.write_bytes(memoryview(plan))
    return _facts(builder, gpu, options, network, seconds, onnx_path, plan_path)


def _facts(
    builder: Builder,
    gpu: Gpu | None,
    options: BuildOptions,
    network: NetworkFacts,
    seconds: float,
    onnx_path: Path,
    plan_path: Path,
) -> PlanFacts:
    return PlanFacts(
        builder=builder.name,
        builder_version=builder.version,
        gpu=gpu,
        driver=driver_version(),
        compute_capabilities=options.compute_capabilities,
        profiles=options.profiles,
        network=network,
        seconds=seconds,
        num_bytes=plan_path.stat().st_size,
        sha256=sha256_file(plan_path),
        onnx_sha256=sha256_file(onnx_path),
    )


def _run(session: Any, parsed: ParsedNetwork, config: Any, builder: Builder, phases: Phases) -> Any:
    # The builder does not keep its monitor alive: this variable does.
    monitor = make_monitor(builder.api, phases)
    config.progress_monitor = monitor
    plan = session.build_serialized_network(parsed.network, config)
    if phases.error is not None:
        raise phases.error
    return plan


def _start(builder: Builder, log: Any) -> Any:
    try:
        return builder.api.Builder(log)
    except (TypeError, RuntimeError) as error:
        reason = log.take_error()
        raise ConfigError(
            f"{builder} can't start{f': {reason}' if reason else ''}: it needs an NVIDIA GPU with its driver; "
            "tensorrt_rtx builds without one"
        ) from error


def _configure(
    session: Any, network: NetworkFacts, options: BuildOptions, builder: Builder, onnx_path: Path
) -> Any:
    api, config = builder.api, session.create_builder_config()
    config.builder_optimization_level = options.level
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if not options.tf32:
        config.clear_flag(api.BuilderFlag.TF32)
    if options.hardware_compatibility != "none":
        level = options.hardware_compatibility.upper()
        config.hardware_compatibility_level = getattr(api.HardwareCompatibilityLevel, level)
    if options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for place, capability in enumerate(options.compute_capabilities):
            name = f"SM{capability.replace('.', '')}"
            config.set_compute_capability(getattr(api.ComputeCapability, name), place)
    for profile in options.profiles:
        _add_profile(session, config, network, profile, onnx_path)
    return config


def _add_profile(session: Any, config: Any, network: NetworkFacts, profile: Profile, onnx_path: Path) -> None:
    added = session.create_optimization_profile()
    for tensor in network.inputs:
        check_profile(profile, tensor, onnx_path.name)
        rest = tensor.shape[1:]
        added.set_shape(tensor.name, (profile.min, *rest), (profile.opt, *rest), (profile.max, *rest))
    if config.add_optimization_profile(added) < 0:
        raise ConfigError(f"profile {profile}: the builder refuses it for {onnx_path.name}")


def _cache_path(options: BuildOptions, builder: Builder, gpu: Gpu | None) -> Path | None:
    if options.timing_cache is None:
        return None
    name = "no GPU" if gpu is None else f"{gpu.name} sm{gpu.compute_capability}"
    plain = re.sub(r"[^a-z0-9.]+", "_", f"{builder.name} {builder.version} {name}".lower())
    return options.timing_cache / f"{plain}.timing"


def _load_cache(config: Any, path: Path | None) -> None:
    if path is None:
        return
    try:
        known = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ProtoclipError(f"{path}: can't be read: {error.strerror or error}") from error
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        raise ConfigError(f"{path}: not a timing cache of this GPU and builder: remove the file")


def _save_cache(config: Any, path: Path | None) -> None:
    if path is not None:
        write_bytes(path, bytes(memoryview(config.get_timing_cache().serialize())))
