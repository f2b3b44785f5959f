"""`protoclip detect fit` and `score`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app, console
from protoclip.cli.client.server_options import DEFAULT_URL, Server, asks_server
from protoclip.contract.errors import ConfigError

from .options import PictureOptions, takes_pictures

detect_app = typer.Typer(
    help="Tell pictures of known kinds from others. Example: protoclip detect fit shop.index shop.detector",
    no_args_is_help=True,
)
app.add_typer(detect_app, name="detect")

WhereOption = Annotated[
    list[str] | None,
    typer.Option(help="Only entries that fit: a condition, as of `protoclip search`. Repeatable."),
]
IndexArgument = Annotated[
    str, typer.Argument(help="Folder that `protoclip index build` wrote, or the address of an index elsewhere.")
]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="An index, or pictures, which are embedded: a folder, a table, shards, or an address; all that "
        "`index build` reads."
    ),
]
OF_INDEX = f"the artifact that the index was built with, or else {DEFAULT_URL}"
DetectorArgument = Annotated[Path, typer.Argument(help="File that `protoclip detect fit` wrote.")]


@detect_app.command()
def fit(
    index: IndexArgument,
    detector: Annotated[Path, typer.Argument(help="File to write; a detector that stands there is replaced.")],
    label: Annotated[
        str | None,
        typer.Option(help="Field of the metadata with the class; entries without it are left out."),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Field of the metadata with the thing that a picture shows, such as a product: whole things are "
            "held out for the threshold, and each counts once."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="neighbours (the default), mahalanobis, mixture (prototypes of each class), mixture_posterior, "
            "energy, max_softmax, palm or palm_posterior (a head and prototypes, trained on the embeddings)."
        ),
    ] = None,
    accept: Annotated[float, typer.Option(help="Share of known pictures to accept.")] = 0.95,
    per_class: Annotated[int, typer.Option(help="Prototypes of a class, for mixtures.")] = 6,
    k: Annotated[int, typer.Option(help="Which neighbour counts, for neighbours.")] = 5,
    centre: Annotated[
        bool, typer.Option("--centre/--no-centre", help="Take the mean of the known embeddings off first.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what is held out and drawn.")] = 0,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run that was trained with --objective palm: its prototypes are the detector, and the index, of "
            "pictures that it was not trained on, only sets the threshold. Its kinds are palm, the default then, "
            "and palm_posterior."
        ),
    ] = None,
    where: WhereOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn what is known from an index of it. A fifth of each class is held out for the threshold.

    From names alone, without pictures: protoclip detect fit-names.

    Example: protoclip detect fit shop.index shop.detector --label category --accept 0.95
    """
    from protoclip.detection.fitting import FewPicturesWarning, fit_detector

    from .entries import read_entries
    from .output import print_detector, tell_unlabelled
    from .trained import TRAINED_KINDS, fit_from_run, fit_head

    if run is not None:
        made = fit_from_run(
            run, index, where or [], kind=kind, label=label, group_by=group_by, accept=accept, centre=centre
        )
        made.save(detector)
        print_detector(detector, made, as_json)
        return
    found = read_entries(index, where or [], label, group_by)
    known = found if label is None else found.with_label()
    labels = None if label is None else known.labels
    groups = None if group_by is None else known.groups
    with warnings.catch_warnings(record=True, category=FewPicturesWarning) as told:
        warnings.simplefilter("always", FewPicturesWarning)
        if kind in TRAINED_KINDS:
            made = fit_head(
                known, labels, kind, groups=groups, accept=accept, per_class=per_class, centre=centre, seed=seed
            )
        else:
            made = fit_detector(
                known.vectors,
                labels,
                kind=kind or "neighbours",
                accept=accept,
                per_class=per_class,
                k=k,
                centre=centre,
                seed=seed,
                groups=groups,
                fingerprint=known.fingerprint,
                model=known.model,
            )
    made.save(detector)
    for warning in told:
        console.print(f"warning: {warning.message}", highlight=False, markup=False)
    print_detector(detector, made, as_json)
    if label is not None:
        tell_unlabelled(len(found) - len(known), label)


@detect_app.command()
@asks_server(OF_INDEX)
@takes_pictures
def calibrate(
    detector: DetectorArgument,
    index: SourceArgument,
    accept: Annotated[float, typer.Option(help="Share of known pictures to accept.")] = 0.95,
    where: WhereOption = None,
    *,
    server: Server,
    pictures: PictureOptions,
    as_json: JsonOption = False,
) -> None:
    """Set the threshold of a detector by known pictures that it was not fit on; labels are not needed.

    Example: protoclip detect calibrate shop.detector known.index --accept 0.95
    """
    from protoclip.detection.detector import Detector

    from .output import print_detector
    from .pictures import Reader

    exported = pictures.to_export(server)
    opened = Detector.open(detector)
    with Reader(opened, server, exported, pictures.reading, [index]) as reader:
        entries = reader.read(index, where or [])
    made = opened.calibrated(entries.vectors, accept)
    made.save(detector)
    print_detector(detector, made, as_json)


@detect_app.command()
@asks_server(OF_INDEX)
@takes_pictures
def score(
    detector: DetectorArgument,
    index: SourceArgument,
    out: Annotated[
        Path | None, typer.Option(help="Write all to FILE.csv: id, known, score; the lowest scores first.")
    ] = None,
    where: WhereOption = None,
    *,
    server: Server,
    pictures: PictureOptions,
    as_json: JsonOption = False,
) -> None:
    """Say which entries of an index, or which pictures, are of no known kind.

    Example: protoclip detect score shop.detector new.index --out strangers.csv
    """
    from protoclip.detection.detector import Detector

    from .output import print_scores, write_scores
    from .pictures import Reader

    if out is not None and out.suffix != ".csv":
        raise ConfigError(f"--out {out}: the scores are written as CSV: name a file like scores.csv")
    exported = pictures.to_export(server)
    opened = Detector.open(detector)
    with Reader(opened, server, exported, pictures.reading, [index]) as reader:
        entries = reader.read(index, where or [])
    scores = opened.score(entries.vectors)
    if out is not None:
        write_scores(out, entries, scores, opened)
    print_scores(entries, scores, opened, out, as_json)
