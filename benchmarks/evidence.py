"""The study of prototypes by docs/results/protocol.md: trains arms and seeds, writes what they show.

    make icons evidence

Each run is a folder under --out: a study that was killed goes on with the run that was under way, from its last
checkpoint, bit for bit. What --result's JSON file holds is read back: committed, a study outlives its machine.
Arms take turns within a seed; a table holds the seeds that all its arms have finished.
Everything is measured on validation parts. `--test` trains on the whole training cell, validation parts included,
and measures the test cells, once: it wants a choice that has been committed, `{"arms": […], "preset": …}`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evidence_arms import (
    ALL_ARMS,
    BASELINE,
    PRESETS,
    TEACHER_ARMS,
    Preset,
    add_architecture,
    config_of,
    steps_of,
)
from evidence_arms import BUNDLED_CORPUS as BUNDLED
from evidence_data import prepare, prepare_bundled
from evidence_locks import locked, one_of_two
from evidence_measures import TEST, VALIDATION, Measured, measure
from evidence_pace import Pace
from evidence_page import write_study
from evidence_study import Study

from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.contract.files import write_text
from protoclip.training.heartbeat import duration
from protoclip.training.train import train

RESULTS = Path("docs/results")


def main() -> None:
    options = options_of()
    with one_of_two(options.out):
        run_study(options, Pace(planned_runs(options)), end_of(options))


def end_of(options: argparse.Namespace) -> float:
    """On the monotonic clock, when no further run is started."""
    return time.monotonic() + 60 * options.minutes if options.minutes else math.inf


def planned_runs(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Model and steps of each run of a call that is not finished yet."""
    preset, found = _opened(options)
    return [
        (preset.model, steps_of(arm, preset))
        for seed in options.seeds or preset.seeds
        for arm in found
        if not _is_known(found[arm].get(seed), options) and not _left_behind(_folder(options, arm, seed), options)
    ]


def run_study(options: argparse.Namespace, pace: Pace, ends_at: float) -> None:
    """Trains and measures what is missing, one run after the other, and writes what is there after each.

    Arms take turns within a seed. A run that another process is at is passed over.
    """
    preset, found = _opened(options)
    if options.test:
        check_choice(RESULTS / f"choice-{options.preset}.json", options.preset, list(found))
    add_architecture()
    data: Path | None = None
    for seed in options.seeds or preset.seeds:
        for arm in found:
            if _is_known(found[arm].get(seed), options):
                continue
            run = _folder(options, arm, seed)
            kept = _left_behind(run, options)
            if kept is not None:
                found[arm][seed] = kept
                _write(options, preset, found)
                continue
            if options.collect or time.monotonic() > ends_at:
                continue
            data = data or _prepare(options, preset)
            with locked(run) as is_ours:
                if not is_ours:
                    print(f"{options.preset}: {arm}, seed {seed}: another process is at it", flush=True)
                    continue
                started = time.monotonic()
                made = run_of(run, arm, seed, preset, data, test=options.test, renew=options.renew)
            pace.done(preset.model, steps_of(arm, preset), time.monotonic() - started)
            told = _told(made, found[arm].get(seed), 256 * steps_of(arm, preset))
            print(f"{options.preset}: {arm}, seed {seed}: {told}; {pace.words()}", flush=True)
            found[arm][seed] = made
            _write(options, preset, found)
    _write(options, preset, found)


def _opened(options: argparse.Namespace) -> tuple[Preset, dict[str, dict[int, Measured]]]:
    """The preset, and what the result holds by arm, those that are asked for, and seed."""
    preset = PRESETS[options.preset]
    arms = list(dict.fromkeys([BASELINE, *(options.arms or preset.arms)]))
    _check_arms(arms, preset)
    return preset, read_back(options.result, _study(options, preset, {arm: {} for arm in arms}))


def _is_known(measured: Measured | None, options: argparse.Namespace) -> bool:
    """Whether nothing is to be done; with --renew the first runs, that kept no hits by concept, are made again."""
    return measured is not None and (bool(measured.hits) or not options.renew)


def _folder(options: argparse.Namespace, arm: str, seed: int) -> Path:
    return Path(options.out) / options.preset / f"{folder_name(arm)}_seed{seed}{'_whole' if options.test else ''}"


def _left_behind(run: Path, options: argparse.Namespace) -> Measured | None:
    result = run / _result_name(test=options.test)
    kept = Measured.model_validate_json(result.read_bytes()) if result.exists() else None
    return kept if _is_known(kept, options) else None


def _prepare(options: argparse.Namespace, preset: Preset) -> Path:
    if preset.corpus == "bundled":
        return prepare_bundled(BUNDLED, options.out)
    return prepare(options.icons, options.out, preset.num_files, preset.num_classes)


def _told(measured: Measured, before: Measured | None, pairs: int) -> str:
    """In one line; values that were committed and are others now are no secret."""
    rate = pairs / measured.train_seconds if measured.train_seconds else 0.0
    values = ", ".join(f"{name} {value:.1f}" for name, value in measured.values.items())
    spent = f"{pairs:,} pairs in {duration(measured.train_seconds)}, {rate:,.0f} pairs/s"
    changed = before is not None and before.values != measured.values
    other = (
        f" (kept before: {', '.join(f'{v:.3f}' for v in before.values.values())})" if before and changed else ""
    )
    return f"{spent}, measured in {duration(measured.measure_seconds)}: {values}{other}"


def _check_arms(arms: Sequence[str], preset: Preset) -> None:
    if wrong := [arm for arm in arms if arm in TEACHER_ARMS and preset.corpus == "icons"]:
        raise ConfigError(f"--arms: {wrong[0]!r}: there are no teacher's features of the icons: leave it out")


def read_back(result: Path | None, planned: Study) -> dict[str, dict[int, Measured]]:
    """What `result`.json holds of the same study, by arm and seed: a lost machine takes only the seed under way.

    Raises:
        ConfigError: the file is of other settings, or of arms that are not asked for.
    """
    found: dict[str, dict[int, Measured]] = {arm: {} for arm in planned.runs}
    path = None if result is None else result.with_suffix(".json")
    if path is None or not path.exists():
        return found
    try:
        kept = Study.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: is no study: {str(error).splitlines()[0]}: name another --result") from None
    if (kept.name, kept.part) != (planned.name, planned.part):
        raise ConfigError(f"{path}: holds {kept.name}, {kept.part}: name another --result")
    if missing := [arm for arm in kept.runs if arm not in found]:
        raise ConfigError(f"{path}: holds arm {missing[0]!r}: name it in --arms too, or another --result")
    for arm, runs in kept.runs.items():
        if kept.digests.get(arm) != planned.digests[arm]:
            raise ConfigError(f"{path}: arm {arm!r} was run with other settings: name another --result")
        found[arm].update(runs)
    return found


def run_of(
    run: Path, arm: str, seed: int, preset: Preset, data: Path, *, test: bool, renew: bool = False
) -> Measured:
    """Trains and measures, or reads what an earlier call left: test cells are never measured twice.

    Args:
        renew: measure validation parts again, where what was left has no hits by concept.
    """
    result = run / _result_name(test=test)
    if result.exists():
        kept = Measured.model_validate_json(result.read_bytes())
        if test or kept.hits or not renew:
            return kept
    cpu_seconds = None
    if not (run / "model.safetensors").exists():
        resume, started = (run / "config.json").exists(), time.process_time()
        train(config_of(arm, seed, preset, data, whole=test), run, resume=resume, quiet=True)
        cpu_seconds = None if resume else round(time.process_time() - started, 2)
    measured = measure(run, preset.corpus, TEST[preset.corpus] if test else VALIDATION, cpu_seconds)
    write_text(result, measured.model_dump_json(indent=2) + "\n")
    return measured


def _result_name(*, test: bool) -> str:
    return "test.json" if test else "validation.json"


def check_choice(path: Path, preset: str, arms: Sequence[str]) -> None:
    """The test cells are for what was chosen, committed, before they are looked at.

    Raises:
        ConfigError: there is no choice, it has not been committed, or it names something else.
    """
    if not path.exists():
        raise ConfigError(f"{path}: write and commit what was chosen on validation parts before --test")
    tracked, changed = (_git(path, *words) for words in (("ls-files",), ("status", "--porcelain")))
    if changed or not tracked:
        raise ConfigError(f"{path}: is not committed: the choice comes before the test cells")
    choice = json.loads(path.read_text("utf-8"))
    if choice.get("preset") != preset or sorted(choice.get("arms", ())) != sorted(arms):
        raise ConfigError(
            f"{path}: names preset {choice.get('preset')!r} and arms {choice.get('arms')}: take these"
        )


def _git(path: Path, *words: str) -> str:
    command = ["git", *words, "--", path.name]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=True).stdout


def folder_name(arm: str) -> str:
    return "_".join("".join(c if c.isalnum() or c == "." else " " for c in arm.lower()).split())


def _write(options: argparse.Namespace, preset: Preset, found: dict[str, dict[int, Measured]]) -> None:
    """Beside what another process with other seeds has written since."""
    if options.result is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "result.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arm, runs in read_back(options.result, _study(options, preset, found)).items():
            united = {**runs, **{seed: made for seed, made in found[arm].items() if made.hits or seed not in runs}}
            found[arm] = dict(sorted(united.items()))
        write_study(_study(options, preset, found), options.result)


def _study(options: argparse.Namespace, preset: Preset, found: dict[str, dict[int, Measured]]) -> Study:
    # The seeds are those of the plan, whichever of them this process was given.
    return Study(
        name=options.preset,
        corpus=preset.corpus,
        part="test cells" if options.test else "validation parts",
        date=datetime.now(UTC).date().isoformat(),
        machine=options.machine,
        command=f"make evidence PRESET={options.preset}" + ", with --test" * options.test,
        model=preset.model,
        steps=preset.steps,
        pairs_seen=256 * preset.steps,
        episode=preset.episode,
        prototypes=preset.prototypes,
        runs=found,
        planned_seeds=list(preset.seeds),
        digests={arm: preset.digest(arm) for arm in found},
    )


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a call; None: the command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icons", type=Path, default=Path(".cache/icons/parquet"), help="what `make icons` wrote")
    parser.add_argument("--out", type=Path, default=Path(".cache/evidence"), help="folder for data and runs")
    parser.add_argument("--preset", choices=list(PRESETS), default="pilot")
    parser.add_argument(
        "--arms", nargs="+", choices=list(ALL_ARMS), help="plain CLIP is always; by default the preset's"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="by default the preset's")
    parser.add_argument("--collect", action="store_true", help="train nothing: write what has been measured")
    parser.add_argument(
        "--renew", action="store_true", help="make runs again of which no hits by concept were kept"
    )
    parser.add_argument("--minutes", type=float, help="start no further run after that time")
    parser.add_argument("--machine", default="2 CPU cores", help="what it ran on, in words")
    parser.add_argument(
        "--test", action="store_true", help="the test cells, once, of what was chosen and committed"
    )
    parser.add_argument("--result", type=Path, help="where to write .json, .md and .svg, a path without suffix")
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        main()
    except ProtoclipError as error:
        raise SystemExit(str(error)) from None
