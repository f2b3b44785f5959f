"""The options of `protoclip export --trt`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from export.engine_plans import Plans
    from export.plans.options import BuildOptions, HardwareCompatibility
    from export.plans.package import PackageName
    from protoclip.contract.manifest import Precision

_PANEL = "TensorRT"
TrtOption = Annotated[
    bool,
    typer.Option(
        "--trt",
        help="Build TensorRT plans beside the ONNX engines, in each --precision named, or in fp32.",
        rich_help_panel=_PANEL,
    ),
]
BuilderOption = Annotated[
    str | None,
    typer.Option(
        help="tensorrt, tensorrt_rtx, or auto: the first that is installed. Default: auto.", rich_help_panel=_PANEL
    ),
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Batch sizes as min:opt:max, from 1 on without a gap. Repeatable. Default: 1:8:32.",
        rich_help_panel=_PANEL,
    ),
]
WorkspaceOption = Annotated[
    int | None, typer.Option(help="Most scratch memory of a kernel, in MiB; default: all.", rich_help_panel=_PANEL)
]
LevelOption = Annotated[
    int | None,
    typer.Option(help="0 builds fast, 5 tries every kernel; default: 3.", rich_help_panel=_PANEL),
]
TimingCacheOption = Annotated[
    Path | None,
    typer.Option(help="Folder for kernel timings that the next build takes over.", rich_help_panel=_PANEL),
]
HardwareOption = Annotated[
    str | None,
    typer.Option(
        help="GPUs beside this one: ampere_plus or same_compute_capability (tensorrt only).",
        rich_help_panel=_PANEL,
    ),
]
CapabilityOption = Annotated[
    list[str] | None,
    typer.Option(help="GPU to build for, such as 8.9 (tensorrt_rtx only). Repeatable.", rich_help_panel=_PANEL),
]


@dataclass(frozen=True)
class TrtOptions:
    """The command line's options for plans; None: not given."""

    builder: str | None = None
    profile: Sequence[str] | None = None
    workspace_mb: int | None = None
    builder_level: int | None = None
    timing_cache: Path | None = None
    hardware_compatibility: str | None = None
    compute_capability: Sequence[str] | None = None

    def plans(self, trt: bool, precisions: Sequence[str]) -> Plans | None:
        """The plans to build, None without --trt.

        Raises:
            ConfigError: options without --trt, a builder that is missing, too old or has no GPU, or options,
                profiles or precisions that it does not take.
        """
        from export.engine_plans import Plans, check_can_build
        from export.plans.package import load_builder
        from protoclip.contract.errors import ConfigError

        given = [f"--{one.name.replace('_', '-')}" for one in fields(self) if getattr(self, one.name) is not None]
        if not trt:
            if given:
                raise ConfigError(f"{given[0]} is about TensorRT plans: add --trt, or leave it out")
            return None
        options = self._build_options()
        builder = load_builder(cast("PackageName", self.builder or "auto"))
        wanted = cast("tuple[Precision, ...]", tuple(dict.fromkeys(precisions)) or ("fp32",))
        plans = Plans(builder, options, wanted)
        check_can_build(builder)
        return plans

    def _build_options(self) -> BuildOptions:
        from export.plans.options import BuildOptions, parse_profile

        # Options that are not given keep their defaults.
        usual = BuildOptions()
        return BuildOptions(
            profiles=tuple(map(parse_profile, self.profile)) if self.profile else usual.profiles,
            workspace_bytes=None if self.workspace_mb is None else self.workspace_mb * 2**20,
            level=usual.level if self.builder_level is None else self.builder_level,
            timing_cache=self.timing_cache,
            hardware_compatibility=cast("HardwareCompatibility", self.hardware_compatibility or "none"),
            compute_capabilities=tuple(self.compute_capability or ()),
        )
