"""`protoclip detect evaluate`: how well a detector tells known pictures from several kinds of strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, console
from protoclip.cli.client.server_options import DEFAULT_URL, Server, asks_server
from protoclip.contract.errors import ConfigError

from .command import DetectorArgument, detect_app
from .options import PictureOptions, takes_pictures


@detect_app.command()
@asks_server(f"the artifact that an index among them was built with, or else {DEFAULT_URL}")
@takes_pictures
def evaluate(
    detector: DetectorArgument,
    known: Annotated[
        str,
        typer.Option(
            help="Known pictures that the detector was not fit on: an index, a folder, a table, shards, or an "
            "address; all that `index build` reads."
        ),
    ],
    strangers: Annotated[
        list[str], typer.Option(help="Others, as --known; NAME=PATH gives them a name. Repeatable.")
    ],
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also write a page with the worst mistakes as pictures: FILE.html, and FILE.json beside it."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Field or column of the known with their class, for the page; `class` are the names of folders."
        ),
    ] = None,
    known_where: Annotated[
        list[str] | None,
        typer.Option(help="Only entries of the known's index that fit: a condition. Repeatable."),
    ] = None,
    strangers_where: Annotated[
        list[str] | None,
        typer.Option(help="Only strangers that fit: a condition, for all their indexes. Repeatable."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap, for the intervals.")] = 1000,
    *,
    server: Server,
    pictures: PictureOptions,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a detector tells known pictures from strangers: AUROC, FPR at 95 %, AUPR, with intervals.

    Example: protoclip detect evaluate shop.detector --known test.index --strangers textures=far/textures
    """
    from protoclip.detection.detector import Detector

    from .compared import compare, named_sources
    from .output import print_evaluated
    from .pictures import Reader

    if report is not None:
        _check_report(report)
    others = named_sources(strangers)
    exported = pictures.to_export(server)
    opened = Detector.open(detector)
    with Reader(opened, server, exported, pictures.reading, [known, *others.values()]) as reader:
        found = compare(
            opened,
            reader.read(known, known_where or [], label),
            {name: reader.read(path, strangers_where or []) for name, path in others.items()},
            resamples,
        )
    print_evaluated(opened, found, as_json)
    same = Path(known).resolve() in [Path(path).resolve() for path in others.values()]
    if same and not (known_where or strangers_where):
        console.print("the known and the strangers are the same: the figures say nothing", highlight=False)
    if report is not None:
        from .report import write_report

        write_report(report, detector, opened, found)
        console.print(f"wrote {report} and {report.with_suffix('.json')}", highlight=False, markup=False)


def _check_report(path: Path) -> None:
    """Before the work what would be told after it."""
    if path.suffix != ".html":
        raise ConfigError(f"--report {path}: a page is written: name a file like detector.html")
    import jinja2  # noqa: F401 - a missing package is told before the work
