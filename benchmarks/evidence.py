"""The study of prototypes by docs/results/protocol.md: trains arms and seeds, writes what they show.

    make icons evidence

Each run is a folder under --out: a study that was killed goes on with the run that was under way, from its last
checkpoint, bit for bit. What --result's JSON file holds is read back: committed, a study outlives its machine.
Arms take turns within a seed; a table holds the seeds that all its arms have finished.
Everything is measured on validation parts. `--test` measures the test cells instead, once: it wants a choice that
has been committed, `{"arms": […], "preset": …}`, and keeps their result beside the run.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evidence_arms import ALL_ARMS, BASELINE, PRESETS, TEACHER_ARMS, Preset, add_architecture, config_of
from evidence_arms import BUNDLED_CORPUS as BUNDLED
from evidence_data import prepare, prepare_bundled
from evidence_measures import TEST, VALIDATION, Measured, measure
from evidence_page import Study, write_study

from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.contract.files import write_text
from protoclip.training.train import train

RESULTS = Path("docs/results")


def main() -> None:
    options = _options()
    preset = PRESETS[options.preset]
    arms = list(dict.fromkeys([BASELINE, *(options.arms or preset.arms)]))
    _check_arms(arms, preset)
    if options.test:
        check_choice(RESULTS / f"choice-{options.preset}.json", options.preset, arms)
    add_architecture()
    is_icons = preset.corpus == "icons"
    ends_at = time.monotonic() + 60 * options.minutes if options.minutes else None
    found = read_back(options.result, _study(options, preset, {arm: {} for arm in arms}))
    data: Path | None = None
    for seed in options.seeds or preset.seeds:
        for arm in arms:
            run = options.out / options.preset / f"{folder_name(arm)}_seed{seed}"
            name = _result_name(test=options.test)
            if seed in found[arm]:
                continue
            if (run / name).exists():
                found[arm][seed] = Measured.model_validate_json((run / name).read_bytes())
            elif options.collect or (ends_at is not None and time.monotonic() > ends_at):
                continue
            else:
                if data is None:
                    data = (
                        prepare(options.icons, options.out, preset.num_files, preset.num_classes)
                        if is_icons
                        else prepare_bundled(BUNDLED, options.out)
                    )
                found[arm][seed] = run_of(run, arm, seed, preset, data, test=options.test)
            print(f"{arm}, seed {seed}: {json.dumps(found[arm][seed].values)}", flush=True)
            _write(options, preset, found)
    _write(options, preset, found)


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


def run_of(run: Path, arm: str, seed: int, preset: Preset, data: Path, *, test: bool) -> Measured:
    """Trains and measures, or reads what an earlier call left: test cells are never measured twice.

    Raises:
        ConfigError: test cells are asked for, and the run is not finished.
    """
    result = run / _result_name(test=test)
    if result.exists():
        return Measured.model_validate_json(result.read_bytes())
    if not (run / "model.safetensors").exists():
        if test:
            raise ConfigError(f"{run}: is not finished: train it without --test first")
        train(config_of(arm, seed, preset, data), run, resume=(run / "config.json").exists(), quiet=True)
    measured = measure(run, preset.corpus, TEST[preset.corpus] if test else VALIDATION)
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
            found[arm] = dict(sorted({**runs, **found[arm]}.items()))
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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icons", type=Path, default=Path(".cache/icons/parquet"), help="what `make icons` wrote")
    parser.add_argument("--out", type=Path, default=Path(".cache/evidence"), help="folder for data and runs")
    parser.add_argument("--preset", choices=list(PRESETS), default="pilot")
    parser.add_argument(
        "--arms", nargs="+", choices=list(ALL_ARMS), help="plain CLIP is always; by default the preset's"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="by default the preset's")
    parser.add_argument("--collect", action="store_true", help="train nothing: write what has been measured")
    parser.add_argument("--minutes", type=float, help="start no further run after that time")
    parser.add_argument("--machine", default="2 CPU cores", help="what it ran on, in words")
    parser.add_argument(
        "--test", action="store_true", help="the test cells, once, of what was chosen and committed"
    )
    parser.add_argument("--result", type=Path, help="where to write .json, .md and .svg, a path without suffix")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except ProtoclipError as error:
        raise SystemExit(str(error)) from None
