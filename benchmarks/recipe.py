"""Trains variants of the demo's recipe over several seeds, and writes a table with intervals.

    python benchmarks/recipe.py --out /tmp/recipe --seeds 0 1 2

All variants share data, augmentation, steps and evaluation. Recall and accuracies are those of
`protoclip evaluate`; an interval is the mean ± Student's t at 95 % over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

from protoclip.contract.files import write_text
from protoclip.demo.run import demo_config
from protoclip.evaluation.run import evaluate_run
from protoclip.evaluation.scores import EVALUATION_FILE, Evaluation, load_evaluation
from protoclip.train import train

VARIANTS: dict[str, tuple[str, ...]] = {
    "ProtoCLIP with teacher": (),
    "ProtoCLIP without teacher": ("teacher.path=none",),
    "plain CLIP": ("teacher.path=none", "episode.warmup_episodes=1000000"),
}
STUDENT_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and recipe.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="applied to every variant")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in arguments.seeds:
        # Variants take turns within a seed, so that a machine that slows down slows all of them.
        for name, overrides in VARIANTS.items():
            run = arguments.out / f"{name.replace(' ', '_').lower()}_seed{seed}"
            results[name].append(measure(run, (*arguments.settings, *overrides, f"train.seed={seed}")))
            write_text(arguments.out / "recipe.json", json.dumps(results, indent=2) + "\n")
    print(table(results))


def measure(run: Path, overrides: tuple[str, ...]) -> dict[str, float]:
    """Trains and evaluates a run, or reads what an earlier call left, and returns its figures in percent."""
    started = time.monotonic()
    if not (run / EVALUATION_FILE).exists():
        train(demo_config(overrides=overrides), run, resume=(run / "config.json").exists())
        evaluate_run(run)
    return figures(load_evaluation(run / EVALUATION_FILE)) | {"seconds": time.monotonic() - started}


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The figures by which recipes are compared."""
    style, concept = evaluation.cells["unseen_style"], evaluation.cells["unseen_concept_any_style"]
    probe = concept.classification["category"].linear_probe
    if probe is None:
        raise ValueError("the cell of unseen concepts has no linear probe")
    return {
        "unseen style R@1": 100 * style.retrieval.image_to_text[1].value,
        "unseen style R@5": 100 * style.retrieval.image_to_text[5].value,
        "unseen concepts R@5": 100 * concept.retrieval.image_to_text[5].value,
        "subcategory zero-shot": 100 * style.classification["subcategory"].zero_shot["members"].value,
        "category probe": 100 * probe.value,
    }


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """A Markdown table, one row a variant."""
    names = [name for name in next(iter(results.values()))[0] if name != "seconds"]
    lines = ["| variant | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for variant, runs in results.items():
        cells = [interval([run[name] for run in runs]) for name in names]
        lines.append(f"| {variant} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(values: list[float]) -> str:
    """`mean ± half width`, or the value alone where there is one."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    spread = STUDENT_T.get(len(values), 2.0) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
