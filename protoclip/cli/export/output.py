"""What `protoclip export` and `protoclip verify` print of a parity report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protoclip.cli.app import console
from protoclip.reports.tables import narrow_table

if TYPE_CHECKING:
    from protoclip.contract.manifest import Manifest

_HEADINGS = (
    "engine",
    "gate",
    "differ-\nence",
    "centr.\ncosine",
    "error",
    "from\nfiles",
    "R@1",
    "zero-\nshot",
    "images\n/s",
)


def print_report(report: dict[str, Any], as_json: bool) -> None:
    """Prints a report as `verdict.json` holds it."""
    if as_json:
        typer.echo(json.dumps(report))
        return
    show_report(report, Console(highlight=False))


def show_report(report: dict[str, Any], output: Console) -> None:
    """The report for people."""
    output.print(
        f"against {report['reference']}, on {report['num_images']} pictures and {report['num_texts']} texts of "
        f"{report['samples']}",
        soft_wrap=True,
    )
    output.print(report_table(report["engines"]))
    _print_lines(output, report)
    if judged := _judged(report["engines"]):
        output.print(judged, soft_wrap=True)
    if report.get("speeds"):
        output.print(report["speeds"], soft_wrap=True)
    output.print(f"proves {report['proves']}")


def _print_lines(output: Console, report: dict[str, Any]) -> None:
    """A line for each failure and for each check that was not answered, the artifact's own first."""
    for check in _checks(report, "failed"):
        output.print(f"[bold red]the artifact[/]: {_line(check)}", soft_wrap=True)
    for engine in report["engines"]:
        for failure in engine["failures"]:
            output.print(f"[bold red]{engine['name']}[/]: {escape(failure)}", soft_wrap=True)
    for name, part in (("the artifact", report), *((engine["name"], engine) for engine in report["engines"])):
        for check in _checks(part, "not checked"):
            output.print(f"[yellow]{name}, not checked[/]: {_line(check)}", soft_wrap=True)


def _judged(engines: list[dict[str, Any]]) -> str:
    """What the detector decides on each engine's embeddings; empty where there is none."""
    found = [(engine["name"], engine["detector"]) for engine in engines if engine.get("detector")]
    shares = [f"{name} {100 * one['same_known']:.1f} % of {one['num_pictures']} pictures" for name, one in found]
    return f"the detector decides as by torch: {', '.join(shares)}" if shares else ""


def _checks(part: dict[str, Any], outcome: str) -> list[dict[str, Any]]:
    """The checks of an engine or of the artifact with that outcome; none in reports of earlier versions."""
    return [check for check in part.get("checks", ()) if check["outcome"] == outcome]


def _line(check: dict[str, Any]) -> str:
    return escape(f"{check['name']}: {check['explanation']}")


def announce(out: Path, source: str, manifest: Manifest, report: dict[str, Any]) -> None:
    """Prints what `export` wrote, and the next command; raises VerdictError where an engine is left out."""
    from protoclip.contract.errors import VerdictError

    console.print(
        f"wrote {out}, serving {manifest.default_engine}; next: [bold]{_next_command(out, source, manifest)}[/]",
    )
    if (why := _why_served(manifest, report["engines"])) is not None:
        console.print(why, highlight=False)
    failed = [engine for engine in report["engines"] if not engine["passed"]]
    kept = {engine.name for engine in manifest.engines}
    left_out = [engine for engine in failed if engine["name"] not in kept]
    if left_out:
        first = left_out[0]
        others = "; ".join(line.partition(":")[0] for line in first["failures"][1:])
        more = f" (failed too: {others})" if others else ""
        raise VerdictError(f"{first['name']} is left out: {first['failures'][0]}{more}: {_way_out(out, first)}")
    refused, unseen = ([e["name"] for e in failed if e["ran"] is ran] for ran in (True, False))
    if refused:
        console.print(f"[bold red]kept although the gate refuses it:[/] {', '.join(refused)}")
    if unseen:
        names = ", ".join(unseen)
        way_out = unverified(out, source, unseen[0])
        console.print(f"[bold red]kept unverified:[/] {names}: {way_out}")


def end_with_unproven_accuracy(report: dict[str, Any]) -> None:
    """Ends with exit code 3 where the accuracy of an engine could not be proven, of random weights."""
    from export.parity.random_weights import ACCURACY

    names = [
        engine["name"]
        for engine in report["engines"]
        if any(check["name"] == ACCURACY for check in _checks(engine, "not checked"))
    ]
    if names:
        console.print(
            f"[yellow]not proven:[/] the accuracy of {', '.join(names)}, since the weights are random; the graphs "
            "are: exit code 3",
        )
        raise typer.Exit(3)


def _why_served(manifest: Manifest, engines: list[dict[str, Any]]) -> str | None:
    """What the engine that is served gains and costs beside float32; None where float32 alone was measured."""
    from protoclip.contract.speed_margin import MIN_SPEEDUP

    speeds = {engine.name: engine.pictures_per_s for engine in manifest.engines}
    plain = speeds.get("onnx_fp32")
    others = {name: speed for name, speed in speeds.items() if speed is not None and name != "onnx_fp32"}
    if plain is None or not others:
        return None
    served = manifest.default_engine
    if served not in others:
        name = max(others, key=lambda name: others[name])
        return (
            f"{name} is {others[name] / plain:.2f} × as fast as onnx_fp32: a lower precision is served from "
            f"{MIN_SPEEDUP:g} × on, where all of it was checked"
        )
    answers = next(engine["answers"] for engine in engines if engine["name"] == served)
    cost = "not known" if answers is None else f"{_delta(answers['recall_at_1_image_to_text'])} points"
    return f"{served} is {others[served] / plain:.2f} × as fast as onnx_fp32; its R@1, and more than torch: {cost}"


def _next_command(out: Path, source: str, manifest: Manifest) -> str:
    # The server that `serve` starts has no TensorRT.
    served = manifest.engine.format in ("onnx", "openvino")
    last = f"protoclip {'serve' if served else 'repository'} {out}"
    return f"protoclip benchmark {out} {source}[/] or [bold]{last}" if len(manifest.engines) > 1 else last


def unverified(artifact: Path, source: str, engine: str) -> str:
    """The command that verifies an engine that could not be run here."""
    machine = "that runs it" if engine.startswith("openvino_") else "with the GPU that it is for"
    return f"on a machine {machine}, `protoclip verify {artifact} {source}` compares it"


def _way_out(out: Path, engine: dict[str, Any]) -> str:
    if engine["ran"]:
        return f"see {out}/verdict.html; `--allow-inaccurate` keeps it all the same"
    if engine["failures"][0].startswith("not built"):
        return "the ONNX engines stand"
    return (
        "export on a machine with one, or keep it with `--allow-inaccurate`, marked as failed, "
        "and let `protoclip verify` run it there; the ONNX engines stand"
    )


def report_table(engines: list[dict[str, Any]]) -> Table:
    """A row for each engine of a report."""
    caption = (
        "the worst of all batch sizes and hostile inputs; from files: centred cosine of the whole way; error: in "
        "distances to the nearest neighbour; R@1 and zero-shot: % right, and points more than torch"
    )
    table = narrow_table(_HEADINGS, caption=caption, texts=("gate",))
    for engine in engines:
        table.add_row(engine["name"], _outcome(engine), *_cells(engine))
    return table


def _outcome(engine: dict[str, Any]) -> str:
    # Reports of the first version say nothing of `ran`: their engines were.
    if not engine.get("ran", True):
        return "[bold red]not run[/]"
    if not engine["passed"]:
        return "[bold red]FAILED[/]"
    # Half an answer looks like half an answer: the word "passed" stands alone only where nothing is open.
    unanswered = len(_checks(engine, "not checked"))
    return "[green]passed[/]" if not unanswered else f"[yellow]passed,\n{unanswered} not\nchecked[/]"


def _cells(engine: dict[str, Any]) -> list[str]:
    found: list[dict[str, Any]] = []
    for encoder in ("image", "text"):
        found += [*engine[encoder]["by_batch_size"].values(), engine[encoder]["adversarial"]]
    answers = engine["answers"]
    return [
        _worst(max, found, "max_abs_difference", ".1e"),
        _worst(min, found, "min_centred_cosine", ".4f"),
        _worst(max, found, "error_to_neighbour", ".3f"),
        _worst(min, [engine["from_files"]], "min_centred_cosine", ".4f"),
        "–" if answers is None else _delta(answers["recall_at_1_image_to_text"]),
        "–" if answers is None else _delta(answers["zero_shot_accuracy"]),
        "–" if engine["pictures_per_s"] is None else f"{engine['pictures_per_s']:.0f}",
    ]


def _worst(worst: Callable[[list[float]], float], found: list[dict[str, Any]], key: str, form: str) -> str:
    values = [comparison[key] for comparison in found if comparison[key] is not None]
    return format(worst(values), form) if values else "–"


def _delta(numbers: list[float] | None) -> str:
    """The candidate's percentage, and its difference to torch's in percentage points."""
    if numbers is None:
        return "–"
    return f"{100 * numbers[1]:.1f} {100 * (numbers[1] - numbers[0]):+.1f}"
