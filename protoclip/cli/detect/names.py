"""`protoclip detect fit-names`: a detector from the names of what is known, without a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protoclip.cli.app import JsonOption, console
from protoclip.cli.client.class_options import LabelOption, LabelsFileOption, LabelsOption, TemplatesOption
from protoclip.cli.client.server_options import Server, asks_server
from protoclip.contract.errors import ConfigError

from .command import WhereOption, detect_app

if TYPE_CHECKING:
    from protoclip.cli.client.standard_input import StandardInput


@detect_app.command()
@asks_server()
def fit_names(
    detector: Annotated[Path, typer.Argument(help="File to write; a detector that stands there is replaced.")],
    labels: LabelsOption = None,
    label: LabelOption = None,
    labels_file: LabelsFileOption = None,
    templates: TemplatesOption = None,
    classes: Annotated[
        Path | None, typer.Option(help="File that `protoclip classes build` wrote, in place of labels.")
    ] = None,
    negatives: Annotated[
        int,
        typer.Option(
            min=0,
            help="Words of the vocabulary, the farthest from all names, that stand for what is not known. 0: "
            "maximum concept matching, which needs two names.",
        ),
    ] = 1000,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="A file in UTF-8 with one word or phrase a line, in place of 10,000 English words of WordNet: "
            "for names in another language, or of a narrow field."
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            help="An index of known pictures, labels not needed: they set the threshold. Without them there is "
            "none, and the detector gives scores alone until `protoclip detect calibrate`."
        ),
    ] = None,
    accept: Annotated[float, typer.Option(help="Share of known pictures to accept, with --pictures.")] = 0.95,
    where: WhereOption = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Learn what is known from its names alone: NegLabel, or maximum concept matching.

    Example: protoclip detect fit-names shop.detector --labels shoes,hats --pictures shop.index
    """
    from protoclip.cli.client.classes import find_classes
    from protoclip.cli.client.standard_input import StandardInput
    from protoclip.detection.from_names import fit_names as fit
    from protoclip.detection.threshold import check_accept

    from .entries import read_entries
    from .output import print_detector

    if where and pictures is None:
        raise ConfigError("--where takes some entries of --pictures: name an index there, or leave it out")
    check_accept(accept)
    stdin = StandardInput()
    found = find_classes(classes, labels or [], label or [], labels_file, templates or [], stdin)
    words = None if vocabulary is None else _words(vocabulary, stdin)
    known = None if pictures is None else read_entries(pictures, where or [])
    with server.connected() as client, console.status("embedding names and words"):
        if known is not None and known.fingerprint != client.model.fingerprint:
            raise ConfigError(
                f"--pictures {pictures}: holds embeddings by {known.model} ({known.fingerprint}), and the names "
                f"would be by {client.model.prefix} ({client.model.fingerprint}): name an index of that model"
            )
        made = fit(client, found(client), num_negatives=negatives, words=words)
    if known is not None:
        made = made.calibrated(known.vectors, accept)
    made.save(detector)
    print_detector(detector, made, as_json)


def _words(file: str, stdin: StandardInput) -> list[str]:
    """The lines of a vocabulary; blank ones are passed over.

    Raises:
        DataError: the file can't be read, or a line is bad.
    """
    from protoclip.cli.client.lines import read_lines
    from protoclip.contract.errors import DataError

    found = []
    for line in read_lines(file, "--vocabulary", "words, one a line,", stdin):
        if line.reason is not None and not line.is_blank:
            raise DataError(f"{line.place}: {line.reason}")
        if not line.is_blank:
            found.append(line.text)
    if not found:
        raise DataError(f"--vocabulary {file}: holds no word: give one a line")
    return found
