"""The study's script: what is held out, which seeds count, what it says, and when it may look at test cells."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyarrow import parquet

from protoclip.contract.errors import ConfigError, DataError
from scripts import load_script

RESULTS = Path(__file__).parents[1] / "docs/results"


@pytest.fixture(scope="module")
def study_page() -> ModuleType:
    return load_script("benchmarks/evidence_page.py")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks/evidence.py")


def test_a_tenth_of_sets_and_of_names_is_held_out() -> None:
    part_of = load_script("benchmarks/evidence_data.py").part_of
    parts = [part_of("train", f"set {a}", f"name {b}") for a in range(100) for b in range(100)]
    share = {part: parts.count(part) / len(parts) for part in set(parts)}
    assert share == {
        "train": pytest.approx(0.81, abs=0.06),
        "val_style": pytest.approx(0.09, abs=0.06),
        "val_concept": pytest.approx(0.09, abs=0.06),
        "val_both": pytest.approx(0.01, abs=0.02),
    }
    # A set and a name are held out everywhere or nowhere, and test cells stay what they are.
    assert len({part_of("train", "mdi", f"name {b}") in ("val_style", "val_both") for b in range(50)}) == 1
    assert {part_of(cell, "a", "b") for cell in ("unseen_set", "unseen_name")} == {"unseen_set", "unseen_name"}


def study(module: ModuleType, runs: dict[str, dict[int, float]], planned: list[int]) -> Any:
    def measured(value: float) -> dict[str, Any]:
        return {
            "values": dict.fromkeys(module.MEASURES, value),
            "curve": [[10, value, value], [20, value, value + 1]],
            "stability": [[10, None], [20, 0.5]],
            "clusterings": 2,
            "train_seconds": 1.0,
            "measure_seconds": 1.0,
            "counts": dict.fromkeys([*module.MEASURES, "texts", "classes", "probe's training pictures"], 1234),
        }

    facts = {
        "name": "x",
        "part": "validation parts",
        "date": "2026-01-02",
        "machine": "m",
        "command": "c",
        "model": "t",
    }
    numbers = {"steps": 20, "pairs_seen": 5120, "episode": 100, "prototypes": 10, "planned_seeds": planned}
    found = {arm: {seed: measured(value) for seed, value in seeds.items()} for arm, seeds in runs.items()}
    return module.Study.model_validate({**facts, **numbers, "runs": found})


def test_seeds_count_that_all_arms_have_finished_in_their_order(study_page: ModuleType) -> None:
    """Seed 2 is complete, but seed 1 before it isn't: a choice of seeds would be a choice of results."""
    runs = {"plain CLIP": {0: 1.0, 1: 1.0, 2: 1.0}, "other": {0: 1.0, 2: 1.0}}
    assert study(study_page, runs, [0, 1, 2]).seeds == [0]
    page = study_page.page(study(study_page, runs, [0, 1, 2]), "x")
    assert "# Pilot" in page
    assert "planned and not finished: 2" in page
    assert page.count("one seed shows nothing") == 4


def test_words_come_from_the_corrected_interval(study_page: ModuleType, tmp_path: Path) -> None:
    plain = {seed: 10.0 + seed for seed in range(6)}
    # Alone 0.3 ± 0.26 would be better; among the eight of the table it isn't.
    weak = {seed: plain[seed] + gain for seed, gain in enumerate((0.05, 0.1, 0.3, 0.3, 0.4, 0.65))}
    strong = {seed: plain[seed] - 3 for seed in plain}
    found = study(study_page, {"plain CLIP": plain, "weak": weak, "strong": strong}, list(range(6)))
    page = study_page.page(found, "x")
    assert "# Study" in page
    rows = page.split("## Against plain CLIP")[1].splitlines()
    assert next(row for row in rows if "| weak" in row).count("no clear difference") == 4
    assert next(row for row in rows if "| strong" in row).count("−3.0 ± 0.0: worse") == 4
    study_page.write_study(found, tmp_path / "x")
    assert study_page.Study.model_validate_json((tmp_path / "x.json").read_bytes()) == found
    assert (tmp_path / "x.svg").read_text().count('class="line') == 3


def test_an_interval_that_excludes_0_does_not_look_as_if_it_held_it(study_page: ModuleType) -> None:
    shown = [
        study_page.ends(low, high) for low, high in ((-0.297, -0.007), (-0.04, 0.04), (0.0, 1e-9), (-2, 0.06))
    ]
    assert shown == ["−0.3 to −0.007", "−0.04 to +0.04", "+0.0 to +0.0", "−2.0 to +0.1"]


def test_test_cells_have_no_curves(study_page: ModuleType, tmp_path: Path) -> None:
    """Their runs train on the validation parts."""
    found = study(study_page, {"plain CLIP": {0: 1.0}, "other": {0: 2.0}}, [0])
    runs = {
        arm: {seed: run.model_copy(update={"curve": ()}) for seed, run in of.items()}
        for arm, of in found.runs.items()
    }
    without = found.model_copy(update={"runs": runs, "part": "test cells"})
    study_page.write_study(without, tmp_path / "x")
    page = (tmp_path / "x.md").read_text("utf-8")
    assert "## Against plain CLIP" in page
    assert "curve" not in page
    assert "No test cell" not in page
    assert not (tmp_path / "x.svg").exists()
    assert "## Steps for equal quality" in study_page.page(found, "x")


def test_pages_hold_what_their_files_hold(study_page: ModuleType) -> None:
    """No number on them is typed."""
    files = sorted(file for file in RESULTS.glob("*.json") if not file.name.startswith("choice"))
    assert files
    for file in files:
        found = study_page.Study.model_validate_json(file.read_bytes())
        assert study_page.page(found, file.stem) == file.with_suffix(".md").read_text("utf-8"), file
        assert study_page.chart(found) == file.with_suffix(".svg").read_text("utf-8"), file
    kept = study_page.Study.model_validate_json((RESULTS / "bundled-small.json").read_bytes())
    assert kept.concepts
    assert kept.with_concepts().concepts == kept.concepts


def test_test_cells_wait_for_a_committed_choice(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "choice.json"

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    git("init", "-q")
    with pytest.raises(ConfigError, match="write and commit what was chosen"):
        script.check_choice(path, "study", ["a"])
    path.write_text(json.dumps({"preset": "study", "arms": ["b", "a"]}))
    with pytest.raises(ConfigError, match="is not committed"):
        script.check_choice(path, "study", ["a", "b"])
    git("add", "choice.json")
    git("commit", "-qm", "x")
    script.check_choice(path, "study", ["a", "b"])
    with pytest.raises(ConfigError, match="names preset 'study'"):
        script.check_choice(path, "pilot", ["a", "b"])


@pytest.fixture
def lost(script: ModuleType, study_page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result with all runs of `smoke`, all else lost: no icons, no run folders."""
    preset = script.PRESETS["smoke"]
    names = [script.BASELINE, *preset.arms]
    runs = {arm: {seed: 10.0 + seed + place for seed in preset.seeds} for place, arm in enumerate(names)}
    digests = {arm: preset.digest(arm) for arm in names}
    facts = {"name": "smoke", "part": "validation parts", "digests": digests}
    study_page.write_study(
        study(study_page, runs, list(preset.seeds)).model_copy(update=facts), tmp_path / "smoke"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "smoke.json"


def call(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    words = ["evidence.py", "--preset", "smoke", "--out", "out", "--result", "smoke", *arguments]
    monkeypatch.setattr("sys.argv", words)
    script.main()


def test_a_committed_result_is_gone_on_with_on_a_fresh_machine(
    script: ModuleType, lost: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads(lost.read_text())["runs"]
    call(script, monkeypatch)
    assert json.loads(lost.read_text())["runs"] == before
    # The one that is missing, and it alone, is run: there is nothing to run it on here.
    partial = json.loads(lost.read_text())
    del partial["runs"]["stream, every 25 steps"]["1"]
    lost.write_text(json.dumps(partial))
    with pytest.raises(DataError, match="run `make icons`"):
        call(script, monkeypatch)
    call(script, monkeypatch, "--collect")
    assert json.loads(lost.read_text())["runs"] == partial["runs"]
    assert "Seed 0, which all arms finished; planned and not finished: 1" in lost.with_suffix(".md").read_text()


def test_the_whole_study_runs_what_is_missing_alone(
    lost: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load_script("benchmarks/study.py")
    words = ["study.py", "--presets", "smoke", "--out", "out", "--results", ".", "--minutes", "1e-9"]
    monkeypatch.setattr("sys.argv", words)
    held = json.loads(lost.read_text())
    for left, values in ((1, held["runs"]["plain CLIP"].pop("1")), (0, None)):
        lost.write_text(json.dumps(held))
        study.main()
        assert f"0 of {left} runs\n" in (said := capsys.readouterr().out)
        assert "the time is over: the same command goes on" in said
        held["runs"]["plain CLIP"]["1"] = values
    assert "choice-bundled.json" in study.closing(Path("docs/results"), is_cut_off=False)


def test_results_of_processes_with_other_seeds_are_united(
    script: ModuleType, lost: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = json.loads(lost.read_text())
    run = Path("out/smoke/plain_clip_seed1")
    run.mkdir(parents=True)
    (run / "validation.json").write_text(json.dumps(held["runs"][script.BASELINE].pop("1")))
    lost.write_text(json.dumps(held))
    call(script, monkeypatch, "--seeds", "1")
    assert list(json.loads(lost.read_text())["runs"][script.BASELINE]) == ["0", "1"]


def test_a_result_of_other_settings_is_not_gone_on_with(
    script: ModuleType, lost: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="holds arm 'extract, once an episode': name it"):
        call(script, monkeypatch, "--arms", "stream, every 25 steps")
    with pytest.raises(ConfigError, match="holds smoke, validation parts"):
        call(script, monkeypatch, "--preset", "pilot")
    held = json.loads(lost.read_text())
    lost.write_text(json.dumps({**held, "digests": {**held["digests"], script.BASELINE: "0"}}))
    with pytest.raises(ConfigError, match="arm 'plain CLIP' was run with other settings"):
        call(script, monkeypatch)
    lost.write_text("{}")
    with pytest.raises(ConfigError, match="is no study"):
        call(script, monkeypatch)


def test_the_bundled_corpus_is_cut_by_hash(tmp_path: Path) -> None:
    data = load_script("benchmarks/evidence_data.py")
    corpus = Path(__file__).parents[1] / "protoclip/demo/corpus"
    table = parquet.read_table(
        data.prepare_bundled(corpus, tmp_path), columns=["split", "part", "style", "concept", "class"]
    ).to_pylist()
    train = [row for row in table if row["part"] == "train"]
    held = [row for row in table if row["part"] in ("val_concept", "val_both")]
    assert {row["concept"] for row in train}.isdisjoint(row["concept"] for row in held)
    styles = {row["style"] for row in table if row["part"] in ("val_style", "val_both")}
    assert len(styles) == 1
    assert styles.isdisjoint(row["style"] for row in train)
    # Test cells stay what they are, and nothing of the training cell is lost.
    assert all(row["part"] == row["split"] for row in table if row["split"] != "train")
    assert len({row["part"] for row in table if row["split"] == "train"}) == 4


def test_every_arm_is_a_configuration(script: ModuleType) -> None:
    names = [script.folder_name(arm) for arm in script.ALL_ARMS]
    assert len(set(names)) == len(names)
    for preset in (script.PRESETS["study"], script.PRESETS["bundled"]):
        assert len({preset.digest(arm) for arm in script.ALL_ARMS}) == len(names)
        for arm in script.ALL_ARMS:
            config = script.config_of(arm, 3, preset, Path("pairs.parquet"))
            assert config.train.seed == 3
            long = "plain CLIP, three times the steps"
            alone = {script.BASELINE, long, "SigLIP"}
            assert config.train.steps == preset.steps * (3 if arm == long else 1)
            assert config.has_prototype_loss == (arm not in alone)
            assert (config.loss.alignment == "sigmoid") == arm.startswith("SigLIP")
            assert (config.teacher.path is not None) == ("teacher" in arm)
    # For the test cells validation parts are trained on: `split` has the training cell as a whole.
    whole = script.config_of(script.BASELINE, 0, preset, Path("pairs.parquet"), whole=True)
    assert (whole.data.split_column, whole.data.train_split) == ("split", "train")
    assert whole.validation.split is None
    assert whole.validation.fraction == 0
