"""Progress without a terminal: never 30 s of silence, in whatever phase, and nothing for --quiet."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked_python
import pytest
from tiny_training import TINY, with_changes

from protoclip.training import heartbeat
from protoclip.training.heartbeat import Heartbeat, duration
from protoclip.training.progress import TrainProgress
from protoclip.training.train import train


class Clock:
    """Seconds that pass when they are told to; `ticking` is called each half second, as its thread would."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[tuple[float, str]] = []
        self.ticking: Heartbeat | None = None

    def __call__(self) -> float:
        return self.now

    def write(self, text: str) -> None:
        self.lines.append((self.now, text))

    def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            if self.ticking is not None:
                self.ticking.tick()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> TrainProgress:
    """Not entered: the test's clock stands in for the thread."""
    made = TrainProgress(write=clock.write, clock=clock)
    clock.ticking = made._lines
    return made


def test_a_run_of_many_phases_is_never_silent_for_30_seconds(progress: TrainProgress, clock: Clock) -> None:
    began = clock.now
    clock.sleep(40)
    with progress.phase("reading the data"):
        clock.sleep(70)
        for _ in progress.reading(range(100), 100):
            clock.sleep(2)
    progress.start(50, 0, 256)
    for step in range(1, 51):
        clock.sleep(7 if step % 10 else 95)
        progress.step(step)
        if step % 5 == 0:
            progress.show("main", 3.2)
        if step == 20:
            with progress.phase("clustering the features of episode 1"):
                clock.sleep(300)
    times = [began, *(when for when, _ in clock.lines), clock.now]
    assert max(after - before for before, after in pairwise(times)) <= 30
    assert len(clock.lines) < (clock.now - began) / 20


def test_lines_say_what_is_going_on_and_how_far(progress: TrainProgress, clock: Clock) -> None:
    assert progress.line() == "starting, for 0 s"
    with progress.phase("reading the data"):
        clock.sleep(65)
        assert progress.line() == "reading the data, for 1 min 5 s"
        reading = progress.reading(iter("abcd"), 4)
        next(reading)
        assert progress.line() == "reading pictures, 0 of 4"
        clock.sleep(30)
        next(reading)
        assert progress.line() == "reading pictures, 1 of 4, 1 min 30 s left"
        assert list(reading) == ["c", "d"]
        assert progress.line() == "reading the data, for 1 min 35 s"
    progress.start(1000, 400, 64)
    assert progress.line() == "step 400 of 1,000"
    clock.sleep(10)
    progress.step(401)
    progress.validated("mean_recall", 0.25, 0.5)
    progress.show("main", 3.21987)
    steps = "step 401 of 1,000, main, loss 3.220, mean_recall 0.250 (best 0.500), 6 pairs/s, 1 h 39 min left"
    assert progress.line() == steps
    with progress.phase("saving step 401"):
        assert progress.line() == f"{steps}; saving step 401, for 0 s"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (4e6, "1,111 h 6 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_reader_that_left_ends_no_run(clock: Clock) -> None:
    def closed(text: str) -> None:
        raise BrokenPipeError

    Heartbeat(str, closed, clock).say("x")


def test_every_long_part_of_a_run_is_a_phase(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    phase = TrainProgress.phase

    @contextmanager
    def noted(self: TrainProgress, what: str, total: int = 0) -> Iterator[Any]:
        with phase(self, what, total) as tell:
            seen.append(self.line())
            yield tell

    monkeypatch.setattr(TrainProgress, "phase", noted)
    config = with_changes(shapes_config, validation={"fraction": 0.2, "every_steps": 12}, train={"batch_size": 6})
    train(config, tmp_path / "run", quiet=True)
    lines = "\n".join(seen)
    for what in (
        "building the model",
        "reading the data",
        "reading pictures, 0 of",
        "reading the validation pictures",
        r"step \d+ of 24.*; extracting features, batches, 0 of \d",
        r"step \d+ of 24.*; clustering the features of episode 1",
        r"step 12 of 24, main, loss .*; validating",
        "saving step 24",
        "writing the finished run",
    ):
        assert re.search(what, lines), what


def test_a_call_that_takes_long_is_no_silence(
    shapes_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The main thread stands still in a clustering; a line comes all the same."""
    from protoclip.prototypes.episode_clustering import EpisodeClustering

    monkeypatch.setattr(heartbeat, "EVERY_S", 0.05)
    monkeypatch.setattr(heartbeat, "_POLL_S", 0.01)
    targets = EpisodeClustering.targets

    def slow(self: EpisodeClustering, *arguments: Any) -> Any:
        time.sleep(0.5)
        return targets(self, *arguments)

    monkeypatch.setattr(EpisodeClustering, "targets", slow)
    train(with_changes(shapes_config), tmp_path / "run")
    assert re.search(
        r"^step 6 of 24, .*left; clustering the features of episode 1, for ", capsys.readouterr().err, re.M
    )


@pytest.mark.parametrize("quiet", [False, True])
def test_into_a_pipe(shapes_config: dict[str, Any], tmp_path: Path, quiet: bool) -> None:
    (tmp_path / "shapes.json").write_text(json.dumps(shapes_config))
    (tmp_path / "tiny-trainable.json").write_text(json.dumps(TINY))
    code = (
        "import sys\nfrom protoclip.encoders.torchvision_workaround import make_torchvision_importable\n"
        "make_torchvision_importable()\nimport open_clip\nopen_clip.add_model_config('tiny-trainable.json')\n"
        "from protoclip.cli import main\nmain()"
    )
    words = ["train", "shapes.json", "--out", "run", *(["--quiet"] if quiet else [])]
    (tmp_path / "train_shapes.py").write_text(code)
    done = forked_python.run([sys.executable, str(tmp_path / "train_shapes.py"), *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "step" in line]
    assert "\x1b" not in done.stderr
    if quiet:
        assert lines == []
        return
    assert lines[0] == "training from step 0 to 24, 12 pairs each"
    waiting = r"(, \d+% of the time waiting for data)?"
    assert re.fullmatch(rf"step 24 of 24, lit, loss \d\.\d{{3}}{waiting}: done in .*", lines[-1])
