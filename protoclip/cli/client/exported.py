"""The artifact of the model that `index build --export` names: one that is there, or exported now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from protoclip.cli.app import console
from protoclip.cli.pairs import DEFAULT_SAMPLES, PairsOptions, SourceOptions, announce_budget, progress_bar
from protoclip.cli.preprocessing import PreprocessingOptions
from protoclip.contract.errors import ConfigError, ModelError, VerdictError

if TYPE_CHECKING:
    from export.graphs.source import Source

    from .server_options import Server

ARTIFACTS = Path("artifacts")
_PANEL = "Without a server and without an artifact"
ExportOption = Annotated[
    str | None,
    typer.Option(
        "--export",
        help="Export this model, compare it with torch and use it here: an open_clip name, hf-hub:ORG/NAME or a "
        "run. Its artifact stays in artifacts/NAME and is taken from there the next time.",
        rich_help_panel=_PANEL,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Of an open_clip name: a tag (`protoclip models`), hf-hub:ORG/NAME, a file, a folder.",
        rich_help_panel=_PANEL,
    ),
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        help="tokenizer.json of a model whose tokenizer is on the Hugging Face hub.",
        rich_help_panel=_PANEL,
    ),
]
SamplesOption = Annotated[
    int,
    typer.Option(
        "--samples",
        help="Pictures and texts to compare on: fewer take less time and prove less.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class ToExport:
    """What the command line says of the model to export."""

    model: SourceOptions
    samples: int = DEFAULT_SAMPLES

    def artifact(self) -> Path:
        """The folder of its artifact, which is exported where there is none of the same fingerprint.

        Raises:
            ConfigError: the model's weights are random, or both folders for it hold something else.
            VerdictError: what is exported, or was, differs from torch.
            ModelError, DataError: as `load_source` and `export_artifact`.
        """
        from export.graphs.fingerprint import fingerprint

        pairs = PairsOptions(count=self.samples)
        found = self.model.load_trained()
        folder, is_there = _place(self.model.name, fingerprint(found.clip))
        if is_there:
            _check_verdict(folder)
            console.print(f"{folder} is the artifact of this model: it is taken as it is")
        else:
            self._export(found, pairs, folder)
        return folder

    def _export(self, found: Source, pairs: PairsOptions, folder: Path) -> None:
        from export.artifact import export_artifact
        from export.target import default_name
        from protoclip.cli.export.output import show_report
        from protoclip.contract.served_parameters import MAX_BATCH_SIZE

        name = default_name(self.model.name)
        _check_target(folder, name)
        samples = pairs.samples()
        announce_budget(found, samples, ("fp32",), MAX_BATCH_SIZE)
        with progress_bar() as progress:
            manifest = export_artifact(found.clip, folder, name, samples, progress=progress)
        report = json.loads((folder / manifest.engine.verdict.report_file).read_text(encoding="utf-8"))
        show_report(report, Console(stderr=True, highlight=False))
        console.print(f"wrote {folder}", highlight=False)


def to_export(
    name: str | None,
    weights: str | None,
    tokenizer: Path | None,
    preprocessing: PreprocessingOptions,
    samples: int,
    server: Server,
) -> ToExport | None:
    """None where no model is to be exported.

    Raises:
        ConfigError: an option of the export without `--export`, or a server's address or option beside it.
    """
    if name is not None:
        _check_no_server(name, server)
        return ToExport(SourceOptions(name, weights, tokenizer, preprocessing), samples)
    given = [("--weights", weights), ("--tokenizer", tokenizer), ("--samples", samples)]
    words = [option for option, value in given if value not in (None, DEFAULT_SAMPLES)]
    words += preprocessing.words()[::2]
    if words:
        raise ConfigError(f"{words[0]} is of the model to export: name it with --export")
    return None


def _check_no_server(name: str, server: Server) -> None:
    """Before minutes of export, what the client would refuse after them."""
    if server.url is not None:
        raise ConfigError(
            f"--export {name} and --url {server.url}: the model is exported and used here, or runs there: leave "
            "one out (PROTOCLIP_URL gives --url as well)"
        )
    if server.model is not None:
        raise ConfigError(
            f"--export {name} and --model {server.model}: --model is of a server that offers several: leave one "
            "out (PROTOCLIP_MODEL gives --model as well)"
        )
    given = [
        ("--header", server.headers or None),
        ("--ca-file", server.ca_file),
        ("--client-cert", server.client_cert),
        ("--client-key", server.client_key),
    ]
    for option, value in given:
        if value is not None:
            raise ConfigError(
                f"--export {name} and {option}: {option} is for a server, and none is asked: leave it out"
            )


def _place(source: str, identity: str) -> tuple[Path, bool]:
    """The artifact's folder, and whether it is there: artifacts/NAME, or NAME_ab12cd beside another model's."""
    from export.target import default_name

    plain = ARTIFACTS / default_name(source)
    places = (plain, plain.with_name(f"{plain.name}_{identity[:6]}"))
    for folder in places:
        if not folder.exists():
            return folder, False
        if _fingerprint_in(folder) == identity:
            return folder, True
    raise ConfigError(
        f"{places[0]} and {places[1]} hold something else: export to another folder with `protoclip export --out "
        "FOLDER`, and name it with --url FOLDER"
    )


def _check_target(folder: Path, name: str) -> None:
    from export.graphs.to_onnx import DEFAULT_OPSET
    from export.target import check_target

    try:
        check_target(folder, name, DEFAULT_OPSET)
    except ConfigError as error:
        raise ConfigError(f"{error} of `protoclip export`, and that one here with --url") from error


def _fingerprint_in(folder: Path) -> str | None:
    from protoclip.contract.manifest import load_manifest

    try:
        return load_manifest(folder).fingerprint
    except ModelError:
        return None


def _check_verdict(folder: Path) -> None:
    from protoclip.client.onnx_session import choose_engine
    from protoclip.contract.manifest import load_manifest

    engine = choose_engine(load_manifest(folder), None, folder)
    if not engine.verdict.passed:
        raise VerdictError(
            f"{folder}: the verdict on {engine.name} is failed: see {folder / engine.verdict.report_file}; --url "
            f"{folder} takes it all the same"
        )
