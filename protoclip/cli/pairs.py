"""Shared by `export`, `verify` and `benchmark`: the model, the pairs to compare on, and the progress bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from .app import console
from .preprocessing import NO_PREPROCESSING, PreprocessingOptions
from .reading import ReadingOptions, errors_as_options, print_left_out

if TYPE_CHECKING:
    from export.graphs.source import Source
    from export.parity.samples import Samples
    from protoclip.contract.manifest import Precision
    from protoclip.contract.progress import Progress
    from protoclip.sources import Pairs

DEFAULT_SAMPLES = 256
MIN_SAMPLES = 8
LARGEST_SERVED = 4096
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="Run folder, RUN/best, RUN/last, hf-hub:ORG/NAME, or the name of an open_clip model.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Of an open_clip name: a tag (`protoclip models`), hf-hub:ORG/NAME, a file, a folder; none: random."
    ),
]
TokenizerOption = Annotated[
    Path | None, typer.Option(help="tokenizer.json of a model whose tokenizer is on the Hugging Face hub.")
]
DataOption = Annotated[
    str | None,
    typer.Option(help="Pairs to compare on, all that `train --data` reads; default: the bundled pictures."),
]
LabelColumnOption = Annotated[
    str | None, typer.Option(help="Column of --data with the picture's class, for zero-shot accuracy.")
]


SamplesOption = Annotated[
    int,
    typer.Option("--samples", help="Pictures and texts to compare on: fewer take less time and prove less."),
]
MaxBatchOption = Annotated[
    int, typer.Option("--max-batch-size", help="Largest batch that is going to be served: compared up to it.")
]


@dataclass(frozen=True)
class SourceOptions:
    """The model as the command line names it."""

    name: str
    weights: str | None = None
    tokenizer: Path | None = None
    preprocessing: PreprocessingOptions = NO_PREPROCESSING

    def load(self) -> Source:
        """The model, with a warning where its weights are random; errors as `load_source`."""
        found = self._found()
        if found.random_weights:
            console.print(
                "[yellow]random weights[/]: this proves the graph, not accuracy; "
                f"--weights TAG takes published ones (`protoclip models {self.name}`), --weights FILE others",
            )
        return found

    def load_trained(self) -> Source:
        """The model, whose weights must not be random: nothing is found with them.

        Raises:
            ConfigError: they are. The rest as `load_source`.
        """
        from protoclip.contract.errors import ConfigError

        found = self._found()
        if found.random_weights:
            raise ConfigError(
                f"{self.name} without --weights has random weights, which find nothing: --weights TAG takes "
                f"published ones (`protoclip models {self.name}`), --weights FILE others"
            )
        return found

    def _found(self) -> Source:
        from export.graphs.source import load_source

        return load_source(self.name, self.weights, self.tokenizer, self.preprocessing.config())

    def __str__(self) -> str:
        """The arguments that name it in a command."""
        given = (("--weights", self.weights), ("--tokenizer", self.tokenizer))
        words = [word for name, value in given if value for word in (name, str(value))]
        return join([self.name, *words, *self.preprocessing.words()])


@dataclass(frozen=True)
class PairsOptions:
    """Where pairs to compare on come from; `path` None: the bundled corpus, with its own columns.

    Raises ConfigError where fewer than `MIN_SAMPLES` are asked for.
    """

    path: str | None = None
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    label_column: str | None = None
    count: int = DEFAULT_SAMPLES

    def __post_init__(self) -> None:
        from protoclip.contract.errors import ConfigError

        if self.count < MIN_SAMPLES:
            raise ConfigError(
                f"--samples {self.count}: a comparison needs {MIN_SAMPLES} or more, and tells little below "
                f"{DEFAULT_SAMPLES}"
            )

    def samples(self) -> Samples:
        """The samples to compare on, filled up with bundled pictures; errors as `pick_samples`."""
        from export.parity.samples import pick_samples

        label_column = "category" if self.path is None else self.label_column
        samples = pick_samples(
            self.load(), self._name, self.count, label_column=label_column, filler=self._filler()
        )
        print_left_out(samples.left_out)
        return samples

    def calibration(self, precisions: Sequence[Precision]) -> Samples | None:
        """The calibration samples, where one of `precisions` needs them; errors as `pick_calibration`."""
        from export.graphs.precision import CALIBRATED
        from export.parity.samples import pick_calibration

        if not set(CALIBRATED) & set(precisions):
            return None
        return pick_calibration(self.load(), self._name, compared=self.count, filler=self._filler())

    @property
    def _name(self) -> str:
        return "the bundled corpus" if self.path is None else self.path

    def _filler(self) -> Pairs | None:
        return None if self.path is None else PairsOptions().load()

    def load(self) -> Pairs:
        """The pairs themselves; errors as `read_pairs`."""
        from protoclip.sources import ReadOptions, read_pairs

        if self.path is None:
            corpus = str(files("protoclip") / "demo" / "corpus" / "*.parquet")
            return read_pairs(ReadOptions((corpus,), "image", ("texts",)))
        with errors_as_options():
            return read_pairs(self.reading.of(self.path, texts=True))


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar that shows the current operation with its rate and the time left, and is removed at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", rate="")

        def show(what: str, done: int, total: int) -> None:
            current = bars.tasks[0]
            if current.description != what:
                # The next operation has a speed and an end of its own.
                bars.reset(task, description=what, total=total, rate="")
            speed = current.finished_speed or current.speed
            bars.update(task, completed=done, total=total, rate="" if speed is None else f"{speed:.1f}/s")

        yield show


def announce_budget(source: Source, samples: Samples, precisions: Sequence[Precision], largest_batch: int) -> None:
    """Says before a comparison how long it takes here; errors as `comparison_budget`."""
    from export.parity.budget import comparison_budget

    console.print(comparison_budget(source.clip, samples, precisions, largest_batch)[1], highlight=False)


def check_max_batch_size(size: int) -> None:
    """Raises ConfigError where no server takes batches of `size`."""
    from protoclip.contract.errors import ConfigError

    if not 1 <= size <= LARGEST_SERVED:
        raise ConfigError(f"--max-batch-size {size}: a server takes batches of 1 to {LARGEST_SERVED}")
