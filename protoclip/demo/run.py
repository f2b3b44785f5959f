"""The complete workflow on the bundled corpus, each part by the function that its command calls."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from export.artifact import export_artifact
from export.parity.samples import pick_samples
from protoclip.config.load import load_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.manifest import Manifest, load_manifest
from protoclip.data.table import load_pairs, training_pairs
from protoclip.distributed.interruption import Interrupted
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.evaluation.run import evaluate_run
from protoclip.evaluation.scores import EVALUATION_FILE, Evaluation, load_evaluation
from protoclip.evaluation.table import evaluation_tables
from protoclip.run_report.contents import Fact, Timing
from protoclip.run_report.views import Views, make_views
from protoclip.runs.files import CONFIG_FILE
from protoclip.sources import Pairs
from protoclip.training.train import train
from serving.triton.launcher import TritonServer
from serving.triton.ports import Ports
from serving.triton.repository import write_repository

from .comparison import compare, load_comparison
from .report import write_report
from .session import ASKED_SPLIT, SEARCHED_SPLIT, ServedAnswers, ask_served_model

T = TypeVar("T")
NAME = "emoji"
REPORT_FILE = "report.html"
INDEX = "emoji.index"
_ASKED = "Concepts that were never trained on, in a style that was never trained on"
_ANY_PORT = Ports(0, 0, 0)


@dataclass
class _Way:
    """Runs the parts one after the other and keeps how long each took."""

    console: Console
    timings: list[Timing] = field(default_factory=list)

    def part(self, name: str, work: Callable[[], T]) -> T:
        self.console.rule(f"[bold]{name}", align="left")
        started = time.monotonic()
        result = work()
        self.timings.append(Timing(name, time.monotonic() - started))
        return result


def demo_config(steps: int | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """The demo's configuration, with the given number of steps and overrides."""
    given = overrides if steps is None else (*overrides, f"train.steps={steps}")
    return load_config(Path(str(files("protoclip") / "demo" / "demo.toml")), given)


def run_demo(out: Path, *, steps: int | None = None, fresh: bool = False) -> Path:
    """Trains, evaluates, exports, serves, queries, and writes the report; returns the report's path.

    Parts that an interrupted demo finished in `out` are not repeated; `fresh` removes `out` first, if it is a
    demo's folder.

    Raises:
        ProtoclipError: a part failed; names the file or setting, and says what to do.
    """
    if fresh and (out / CONFIG_FILE).exists():
        shutil.rmtree(out)
    way = _Way(Console(stderr=True))
    config = demo_config(steps)
    study = load_comparison()
    pairs = load_pairs(config.data)
    way.part("train", lambda: _train(config, out))
    evaluation = way.part("evaluate", lambda: _evaluate(out, way.console))
    manifest = way.part("export and verify", lambda: _export(out, pairs, way.console))
    repository = out / "model_repository"
    way.part("write the model repository", lambda: write_repository(out / "artifact", repository))
    answers = way.part("serve, embed, classify, search", lambda: _ask(repository, pairs, config, out, way.console))
    views = _views(answers, config)
    report = out / REPORT_FILE
    write_report(
        out,
        evaluation=evaluation,
        pairs=training_pairs(pairs, config.data),
        searches=answers.searches,
        classifications=answers.classifications,
        latencies=answers.latencies,
        timings=way.timings,
        out=report,
        facts=_facts(manifest),
        views=views,
        comparison=None if study is None else compare(study),
    )
    return report


def _train(config: RunConfig, out: Path) -> None:
    if (out / WEIGHTS_FILE).exists() and _same_config(config, out):
        return
    if (out / CONFIG_FILE).exists() and not _same_config(config, out):
        raise ConfigError(
            f"{out}: holds a demo with other settings: add --fresh, or name another folder with --out"
        )
    try:
        train(config, out, resume=(out / CONFIG_FILE).exists())
    except Interrupted as error:
        saved = str(error).partition(":")[0]
        raise Interrupted(f"{saved}: start the demo again to go on", error.exit_code - 128) from error


def _same_config(config: RunConfig, out: Path) -> bool:
    from protoclip.runs.files import began_before_color_management, load_run_config, with_stored_colors

    begun = with_stored_colors(config) if began_before_color_management(out) else config
    return load_run_config(out) == begun


def _evaluate(out: Path, console: Console) -> Evaluation:
    if (out / EVALUATION_FILE).exists():
        evaluation = load_evaluation(out / EVALUATION_FILE)
    else:
        with Progress(console=console, transient=True) as progress:
            evaluation = evaluate_run(out, progress=progress)
    console.print(*evaluation_tables(evaluation))
    return evaluation


def _export(out: Path, pairs: Pairs, console: Console) -> Manifest:
    with contextlib.suppress(ModelError):  # none yet, or one of an earlier version
        return load_manifest(out / "artifact")
    with _bars(console) as bars:
        task = bars.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        samples = pick_samples(pairs, "the bundled corpus")
        manifest = export_artifact(load_clip(out), out / "artifact", NAME, samples, progress=show)
    verdict = manifest.engine.verdict
    console.print(
        f"parity [green]passed[/]: largest difference {verdict.max_abs_difference:.1e} on {verdict.num_images} "
        f"pictures and {verdict.num_texts} texts"
    )
    return manifest


def _ask(repository: Path, pairs: Pairs, config: RunConfig, out: Path, console: Console) -> ServedAnswers:
    with (
        TritonServer(repository, names=(NAME,), ports=_ANY_PORT, log_file=out / "triton.log") as server,
        _bars(console) as bars,
    ):
        console.print(f"Triton answers at {server.grpc_url} and {server.http_url}")
        return ask_served_model(server.grpc_url, pairs, config, out / INDEX, out / "artifact", bars)


def _views(answers: ServedAnswers, config: RunConfig) -> Views:
    corpus = answers.embedded
    splits = corpus.pairs.column("split")
    return make_views(
        corpus,
        splits == SEARCHED_SPLIT,
        splits == ASKED_SPLIT,
        class_columns=config.evaluation.class_columns,
        names=("Known concepts in a style that was never trained on", _ASKED, "the corpus"),
    )


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _facts(manifest: Manifest) -> list[Fact]:
    verdict = manifest.engine.verdict
    compared = f"{verdict.num_images} pictures and {verdict.num_texts} texts"
    return [
        Fact("ONNX against torch", f"passed: largest difference {verdict.max_abs_difference:.1e} on {compared}"),
        Fact("Served as", f"{manifest.model_name('image')}, {manifest.model_name('text')}"),
        Fact("Fingerprint", manifest.fingerprint),
    ]
