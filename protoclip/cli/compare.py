"""`protoclip compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from protoclip.config.setting_types import DeviceName
from protoclip.distributed.devices import device_of

from .app import JsonOption, app, console
from .measured_models import features_folder, load_measured, own_device
from .reading import (
    DEFAULT_ENCODING,
    DEFAULT_MAX_LEFT_OUT,
    DelimiterOption,
    EncodingOption,
    ImageColumnOption,
    LayoutOption,
    MaxLeftOutOption,
    ReadingOptions,
    SplitOption,
    TextColumnOption,
    errors_as_options,
)

if TYPE_CHECKING:
    import torch

    from protoclip.evaluation.compared_arms import Arm
    from protoclip.evaluation.features import MeasuredModel


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: a run, RUN/best, an artifact, hf-hub:ORG/NAME, or NAME:TAG of a published model. "
            "A name for tables in front, and several runs of it, one for each seed: plain=runs/a0,runs/a1"
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure on this; all that `train --data` reads. Default: the first run's own. Repeatable."
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Part of the run's data; default: the first that it wasn't trained on.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Rows with the same value show the same thing; default: the run's.")
    ] = None,
    class_column: Annotated[
        list[str] | None,
        typer.Option(help="Also zero-shot classification by this; default: the run's. Repeatable."),
    ] = None,
    templates: Annotated[str, typer.Option(help="Set of templates that class names are put into.")] = "plain",
    image_column: ImageColumnOption = None,
    text_column: TextColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    max_left_out: MaxLeftOutOption = DEFAULT_MAX_LEFT_OUT,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 256,
    device: Annotated[DeviceName, typer.Option(help="Where models compute; an artifact has its own.")] = "auto",
    probes: Annotated[
        bool,
        typer.Option(
            "--probes", help="Also a linear probe and k-NN by class, fitted on the first run's training pairs."
        ),
    ] = False,
    keep_features: Annotated[
        bool, typer.Option(help="Keep pictures' embeddings in each RUN/features, for the next time.")
    ] = True,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page with the pictures on which they differ most.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare models on the same pictures, with intervals of the differences; under torchrun on several ranks.

    Example: protoclip compare runs/plain runs/proto --report difference.html
    """
    from rich.progress import Progress

    from protoclip.distributed import collectives
    from protoclip.evaluation.compared_arms import check_arms, embed_arms
    from protoclip.evaluation.compared_data import choose_data
    from protoclip.evaluation.comparing import measure_arms
    from protoclip.evaluation.comparison_table import comparison_tables
    from protoclip.run_report.comparison_page import write_comparison

    chosen_device = device_of(device, f"--device {device}")
    arms = [
        arm_of(word, name, chosen_device, keep_features=keep_features)
        for word, name in zip(models, arm_names(models), strict=True)
    ]
    check_arms(arms)
    reading = ReadingOptions(image_column, text_column, split, encoding, delimiter, layout, max_left_out)
    with (
        errors_as_options() if data else nullcontext(),
        # Embeddings meet on the CPU, wherever they are made.
        collectives.ranks("cpu"),
        Progress(console=console, transient=True, disable=not collectives.is_first()) as progress,
    ):
        other = reading.of(*data, texts=True) if data else None
        chosen = choose_data([source for arm in arms for source in arm.sources], other, part, probes=probes)
        embedded = embed_arms(
            arms,
            chosen.pairs,
            group_column=group_column or chosen.group_column,
            class_columns=class_column if class_column is not None else chosen.class_columns,
            templates=templates,
            train=chosen.train,
            batch_size=batch_size,
            progress=progress,
        )
        found = collectives.on_first(lambda: measure_arms(embedded, chosen.name))
    if found is None:
        return
    if report is not None:
        write_comparison(report, found)
    if as_json:
        typer.echo(json.dumps(asdict(found.comparison), indent=2))
        return
    Console().print(*comparison_tables(found.comparison))
    if report is not None:
        console.print(f"written to {report}")


def arm_names(words: Sequence[str]) -> list[str]:
    """As given, `plain=runs/a0,runs/a1`; else the last part of the path, where no other arm has the same."""
    short = [name or Path(rest).name or rest for name, rest in map(_parts, words)]
    return [
        own if own not in short[:place] + short[place + 1 :] or name else rest
        for place, (own, (name, rest)) in enumerate(zip(short, map(_parts, words), strict=True))
    ]


def arm_of(word: str, name: str, device: torch.device, *, keep_features: bool) -> Arm:
    """An arm as it is named on the command line: `runs/a`, `plain=runs/a`, or `plain=runs/a0,runs/a1`."""
    from protoclip.evaluation.compared_arms import Arm

    sources = _several(_parts(word)[1])
    features = tuple(features_folder(one) for one in sources) if keep_features else ()
    return Arm(name, sources, tuple(partial(_load, one, device) for one in sources), features)


def _load(source: str, device: torch.device) -> MeasuredModel:
    # Only when it is loaded the launcher's ranks are known.
    return load_measured(source, own_device(device))


def _parts(word: str) -> tuple[str, str]:
    """A name, or nothing, and what stands behind it; a path that exists is one, whatever is in it."""
    name, _, rest = word.partition("=")
    return (name, rest) if rest and "/" not in name and not Path(word).exists() else ("", word)


def _several(text: str) -> tuple[str, ...]:
    return (text,) if Path(text).exists() else tuple(part for part in text.split(",") if part)
