"""What `protoclip train` prints: the plan of a run that is not started, and the result of a finished one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import console
from protoclip.contract.errors import ConfigError, ProtoclipError

from .configuration import waiting_shown

if TYPE_CHECKING:
    from protoclip.config.schema import RunConfig
    from protoclip.config.setting_types import DeviceName
    from protoclip.training.preview import Preview

_MIB = 2**20
_NUM_SHOWN = 5


def show_plan(config: RunConfig, run: Path, *, resume: bool, as_json: bool) -> None:
    """Prints what training would do.

    Raises:
        ConfigError, DataError, ModelError: as training would raise, and too little memory or disk.
    """
    from protoclip.training.preview import preview_run

    with waiting_shown("reading data and model"):
        preview = preview_run(config, run, resume=resume)
    if as_json:
        typer.echo(json.dumps(asdict(preview)))
    else:
        _print_plan(preview)
    if preview.objections:
        raise ConfigError("; ".join(preview.objections))


def write_page(run: Path, device: DeviceName, *, quiet: bool) -> Path | None:
    """The page of a finished run; where it can't be written, the run is none the worse: a warning, and None."""
    from rich.progress import Progress

    from protoclip.distributed.devices import device_of
    from protoclip.run_report.page import write_run_report

    try:
        with Progress(console=console, transient=True, disable=quiet) as progress:
            return write_run_report(run, device=device_of(device, "train.device"), progress=progress)
    except ProtoclipError as error:
        console.print(f"[yellow]no page was written:[/] {escape(str(error))}: try `protoclip report {run}`")
        return None


def show_trained(run: Path, page: Path | None, *, as_json: bool) -> None:
    """Prints where the run and its page are, and the next command; as JSON with the last step's metrics."""
    from protoclip.runs.metrics import read_metrics

    if as_json:
        last = [line for line in read_metrics(run) if line["kind"] == "step"][-1]
        typer.echo(
            json.dumps(
                {
                    "run": str(run),
                    "report": None if page is None else str(page),
                    **{name: last[name] for name in ("step", "loss", "seconds")},
                }
            )
        )
        return
    if page is not None:
        console.print(f"wrote {page}: curves, scores and pictures")
    console.print(f"wrote {run}; next: [bold]protoclip evaluate {run}[/] or [bold]protoclip export {run}[/]")


def _print_plan(preview: Preview) -> None:
    table = Table(show_header=False, title=f"plan of {preview.run}", title_justify="left")
    rows = {"data": _data(preview), "model": _model(preview), "episodes": _episodes(preview)}
    rows |= {"steps": _steps(preview), "memory": _memory(preview), "files": _files(preview)}
    for name, lines in rows.items():
        table.add_row(name, Text("\n".join(lines), overflow="fold"))
    Console().print(table)
    console.print("nothing was written of the run", highlight=False)


def _data(preview: Preview) -> list[str]:
    data = preview.data
    lines = [f"{data.pairs:,} pairs with {data.texts:,} texts"]
    if data.groups is not None:
        lines.append(
            f"{data.groups:,} groups, the largest of {data.largest_group:,}; none meets itself in a batch"
        )
    lines += [f"{count:,} left out: {reason}" for reason, count in data.left_out.items()]
    lines += [f"left out: {skipped.name}: {skipped.reason}" for skipped in data.first_left_out]
    lines.append(f"{len(data.unreadable)} of {data.sampled} pictures tried can't be read and would be left out")
    return lines + [bad.reason for bad in data.unreadable[:_NUM_SHOWN]]


def _model(preview: Preview) -> list[str]:
    fate = f"goes on from {preview.resume_from}" if preview.resume_from else "starts afresh"
    size = f"{preview.parameters / 1e6:.1f} M parameters"
    return [f"{preview.model}, {size}, on {preview.device} in {preview.precision}; {fate}"]


def _episodes(preview: Preview) -> list[str]:
    repeats = f", gone through {preview.repeats} times" if preview.repeats > 1 else ""
    batches = f"{preview.batches_per_episode:,} batches of {preview.batch_size:,}"
    lines = [f"{preview.episode_size:,} pairs in {batches}{repeats}"]
    if preview.classes is None:
        lines.append(f"{preview.prototypes:,} prototypes a side")
    else:
        lines.append(f"{preview.prototypes:,} prototypes of {preview.classes:,} classes")
    if preview.teacher_prototypes is not None:
        lines.append(f"{preview.teacher_prototypes:,} prototypes of the teacher")
    return lines


def _steps(preview: Preview) -> list[str]:
    lines = [f"{preview.steps:,} in all"]
    for span in preview.stages:
        lines.append(f"{span.stage}: {span.steps:,} from step {span.first_step:,} on, {span.episodes:,} episodes")
    if preview.validations is not None:
        lines.append(f"held-out pairs measured {preview.validations:,} times")
    return lines


def _memory(preview: Preview) -> list[str]:
    lines = [f"{size / _MIB:,.1f} MiB {name}" for name, size in preview.memory_bytes.items() if size]
    if not preview.pictures_kept:
        size = f"{preview.data.pixel_bytes / _MIB:,.0f} MiB"
        lines.append(f"pictures are decoded anew each time: {size} decoded are more than data.cache_mb")
    return [*lines, "and activations, which depend on model and batch"]


def _files(preview: Preview) -> list[str]:
    return [f"{file.name}" + (f" {file.bytes / _MIB:,.1f} MiB" if file.bytes else "") for file in preview.files]
