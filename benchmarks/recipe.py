"""Trains variants of the demo's recipe over several seeds, and writes what the demo's report compares.

    make recipe

All variants share data, augmentation, words, steps and evaluation. Recall and accuracies are those of
`protoclip evaluate`; intervals and verdicts are those of `protoclip.evaluation.paired`. Runs that are there are
read, so that a study can be made in parts: `--variants`, `--seeds`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from protoclip.contract.files import write_text
from protoclip.demo.comparison import BASELINE, Comparison, markdown_table
from protoclip.demo.run import demo_config
from protoclip.evaluation.run import evaluate_run
from protoclip.evaluation.scores import EVALUATION_FILE, Evaluation, load_evaluation
from protoclip.training.train import train

VARIANTS: dict[str, tuple[str, ...]] = {
    "ProtoCLIP with teacher": (),
    "ProtoCLIP with teacher, streamed": ("prototypes.source=stream",),
    "ProtoCLIP without teacher": ("teacher.path=none",),
    BASELINE: ("teacher.path=none", "loss.proto_weight=0"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--machine", default="2 CPU cores", help="what it ran on, in words")
    parser.add_argument("--result", type=Path, help="JSON file to write, with plain CLIP among the variants")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.variants}
    for seed in arguments.seeds:
        # Variants take turns within a seed, so that a study that is cut off has all of them.
        for name in arguments.variants:
            run = arguments.out / f"{name.replace(' ', '_').lower()}_seed{seed}"
            results[name].append(measure(run, (*VARIANTS[name], f"train.seed={seed}")))
            print(f"{name}, seed {seed}: {json.dumps(results[name][-1])}", flush=True)
    if arguments.result is not None:
        study = the_study(results, arguments.seeds, arguments.machine)
        write_text(arguments.result, study.model_dump_json(indent=2) + "\n")
        print(markdown_table(study))


def measure(run: Path, overrides: tuple[str, ...]) -> dict[str, float]:
    """Trains and evaluates a run, or reads what an earlier call left, and returns its figures in percent."""
    if not (run / EVALUATION_FILE).exists():
        train(demo_config(overrides=overrides), run, resume=(run / "config.json").exists())
        evaluate_run(run)
    return figures(load_evaluation(run / EVALUATION_FILE))


def the_study(results: dict[str, list[dict[str, float]]], seeds: list[int], machine: str) -> Comparison:
    """The figures by variant, each with a value for every seed."""
    config = demo_config()
    settings = config.model_dump_json(exclude={"data": {"path"}, "teacher": {"path"}, "model": {"word_vectors"}})
    return Comparison(
        date=datetime.now(UTC).date().isoformat(),
        machine=machine,
        command="make recipe",
        steps=config.train.steps or 0,
        config_sha256=hashlib.sha256(settings.encode()).hexdigest(),
        seeds=tuple(seeds),
        results={
            name: {figure: tuple(round(run[figure], 2) for run in runs) for figure in runs[0]}
            for name, runs in results.items()
        },
    )


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The figures by which recipes are compared."""
    style, concept = evaluation.subsets["unseen_style"], evaluation.subsets["unseen_concept_any_style"]
    probe = concept.classification["category"].linear_probe
    if probe is None:
        raise ValueError("the subset of unseen concepts has no linear probe")
    return {
        "unseen style R@1": 100 * style.retrieval.image_to_text[1].value,
        "unseen style R@5": 100 * style.retrieval.image_to_text[5].value,
        "unseen concepts R@5": 100 * concept.retrieval.image_to_text[5].value,
        "subcategory zero-shot": 100 * style.classification["subcategory"].zero_shot["members"].value,
        "category probe": 100 * probe.value,
    }


if __name__ == "__main__":
    main()
