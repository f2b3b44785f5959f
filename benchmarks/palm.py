"""Mixtures of prototypes as a training objective against one centre a class: which tells strangers better.

    python benchmarks/palm.py --out .cache/palm
    python benchmarks/palm.py --out .cache/palm_head --frozen runs/demo

For each seed and arm a small tower is trained from scratch by `loss.objective = "palm"` on the known categories of
the bundled corpus; then detectors on its embeddings compare known pictures of unseen concepts with near strangers
(categories that were held out) and far ones (textures, noise). A run that is there is not trained again, and one
that was interrupted goes on. With --frozen only a head is trained, on the embeddings of a model; a detector
"behind the head" works on what the head makes of them.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence_arms import TINY, add_architecture
from numpy.typing import NDArray
from palm_data import Parts, labels_of, prepare

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.files import write_text
from protoclip.contract.pixels import load_pixels
from protoclip.detection.fitting import fit_detector
from protoclip.detection.measures import auroc, false_positive_rate
from protoclip.detection.mixture import Mixture
from protoclip.detection.trained import TrainedMixture
from protoclip.detection.vectors import checked
from protoclip.encoders.model import ClipModel
from protoclip.evaluation.paired import estimate, paired_difference, verdict
from protoclip.runs.model import load_model
from protoclip.runs.palm import load_mixture
from protoclip.training.palm_head import train_head
from protoclip.training.train import train

ARMS: dict[str, dict[str, Any]] = {
    "M = 6": {"per_class": 6},
    "M = 1": {"per_class": 1},
    "M = 6, contrast moves nothing": {"per_class": 6, "contrast": "off"},
    "M = 6, contrast moves prototypes": {"per_class": 6, "contrast": "prototypes"},
    "M = 2": {"per_class": 2},
    "M = 4": {"per_class": 4},
    "M = 8": {"per_class": 8},
    "M = 1, contrast moves nothing": {"per_class": 1, "contrast": "off"},
}
DETECTORS: dict[str, dict[str, Any]] = {
    "mahalanobis": {"kind": "mahalanobis"},
    "neighbours": {"kind": "neighbours"},
    "mixture of 6, fit afterwards": {"kind": "mixture", "per_class": 6},
    "one centre a class": {"kind": "mixture", "per_class": 1},
    "energy": {"kind": "energy"},
    "max_softmax": {"kind": "max_softmax"},
}
TRAINED = {"trained prototypes, nearest": "nearest", "trained prototypes, all": "posterior"}
BASELINES = ("one centre a class", "energy", "max_softmax")


def config_of(arm: str, seed: int, steps: int, batch_size: int, data: Path) -> RunConfig:
    """Arms differ in the section `palm` alone."""
    return build_config(
        {
            "data": {"path": [str(data)], "text_columns": ["label"], "class_column": "category"},
            "model": {"name": TINY, "head": {"hidden_dim": 128, "projection_dim": 64}},
            "augmentation": {"crop_scale": [0.5, 1.0], "jitter": 0.0, "grey": 0.0, "blur": 0.0},
            "loss": {"objective": "palm"},
            "palm": {"contrast": "features"} | ARMS[arm],
            "optim": {"learning_rate": 2e-3, "weight_decay": 0.1, "warmup_steps": steps // 10},
            "train": {"batch_size": batch_size, "steps": steps, "num_workers": 0, "seed": seed, "device": "cpu"},
        },
        f"arm {arm!r}",
    )


Found = dict[str, dict[str, tuple[float, float]]]
"""AUROC and FPR at 95 % by detector and by kind of strangers."""
_WITHOUT_HEAD: dict[int, Found] = {}
_KEPT: dict[int, dict[bytes, NDArray[np.float32]]] = {}


def embedded(clip: ClipModel, pictures: Sequence[bytes]) -> NDArray[np.float32]:
    """[N, D] of unit norm; each picture passes each model once."""
    kept = _KEPT.setdefault(id(clip.module), {})
    new = [picture for picture in dict.fromkeys(pictures) if picture not in kept]
    if new:
        kept.update(zip(new, _embedded(clip, new), strict=True))
    return np.stack([kept[picture] for picture in pictures])


def _embedded(clip: ClipModel, pictures: Sequence[bytes]) -> NDArray[np.float32]:
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (clip.mean, clip.std))
    found = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 256):
            pixels = np.stack([load_pixels(picture, clip.pixels) for picture in pictures[start : start + 256]])
            inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
            found.append(clip.module.encode_image(inputs).numpy())  # type: ignore[operator]
    return checked(np.concatenate(found))


def measured(run: Path, parts: Parts, seed: int) -> Found:
    """Every detector on a run's embeddings."""
    clip = load_model(run)
    images, labels = labels_of(parts.train)
    vectors = {name: embedded(clip, pictures) for name, pictures in parts.compared.items()}
    found = _fit_and_compared(embedded(clip, images), labels, vectors, seed)
    for name, reading in TRAINED.items():
        found[name] = _compared(load_mixture(run, reading)[1], vectors)  # type: ignore[arg-type]
    return found


def measured_head(clip: ClipModel, arm: str, parts: Parts, seed: int) -> Found:
    """Every detector on the embeddings of a model, and behind a head that was trained on them."""
    images, labels = labels_of(parts.train)
    known = embedded(clip, images)
    vectors = {name: embedded(clip, pictures) for name, pictures in parts.compared.items()}
    # All arms of a seed have the same embeddings.
    if seed not in _WITHOUT_HEAD:
        _WITHOUT_HEAD[seed] = _fit_and_compared(known, labels, vectors, seed)
    found = dict(_WITHOUT_HEAD[seed])
    names, numbers = np.unique(labels, return_inverse=True)
    palm = {"contrast": "features"} | ARMS[arm]
    mixture = train_head(known, numbers.astype(np.int64), len(names), palm, seed=seed)
    for name, reading in TRAINED.items():
        read = Mixture(mixture.mixture.prototypes, mixture.mixture.owners, reading)  # type: ignore[arg-type]
        found[name] = _compared(TrainedMixture(mixture.layers, read), vectors)
    behind = {name: mixture.project(rows) for name, rows in vectors.items()}
    of_head = _fit_and_compared(mixture.project(known), labels, behind, seed)
    return found | {f"{name}, behind the head": row for name, row in of_head.items()}


def _fit_and_compared(
    known: NDArray[np.float32], labels: list[str], vectors: dict[str, NDArray[np.float32]], seed: int
) -> Found:
    scorers = {name: fit_detector(known, labels, seed=seed, **how) for name, how in DETECTORS.items()}
    return {name: _compared(scorer, vectors) for name, scorer in scorers.items()}


def _compared(scorer: Any, vectors: dict[str, NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    own = scorer.score(vectors["unseen"])
    theirs = {kind: scorer.score(rows) for kind, rows in vectors.items() if kind != "unseen"}
    return {kind: (auroc(own, row), false_positive_rate(own, row)) for kind, row in theirs.items()}


def result_of(arm: str, seed: int, options: argparse.Namespace, clip: ClipModel | None) -> dict[str, Any]:
    """What a run shows, from its file where there is one."""
    name = f"{arm.replace(' ', '').replace(',', '_').replace('=', '')}_{seed}"
    run, path = options.out / name, options.out / f"{name}.json"
    if not path.exists():
        parts = prepare(seed, options.out)
        if clip is not None:
            found = measured_head(clip, arm, parts, seed)
        else:
            config = config_of(arm, seed, options.steps, options.batch_size, parts.train)
            if not (run / "model.safetensors").exists():
                train(config, run, resume=True, quiet=True)
            found = measured(run, parts, seed)
        write_text(path, json.dumps({"held_out": parts.held_out, "found": found}))
    return dict(json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".cache/palm"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--frozen", help="run, or name of a model, on whose embeddings a head is trained")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    add_architecture()
    clip = None if options.frozen is None else load_model(options.frozen)
    results: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        results[seed] = {}
        for arm in options.arms:
            results[seed][arm] = result_of(arm, seed, options, clip)
            print(f"seed {seed}, {arm}: done", flush=True)
        text = report(options, results, clip)
        if options.result is not None:
            write_text(options.result, text)
    print(text)


def far(found: dict[str, Any], place: int) -> float:
    """The mean over textures and noise."""
    return float(np.mean([found["textures"][place], found["noise"][place]]))


def values_of(
    results: dict[int, dict[str, Any]], arm: str, detector: str, kind: str, place: int = 0
) -> list[float]:
    """In percent, one a seed."""
    rows = [by_arm[arm]["found"][detector] for by_arm in results.values()]
    return [100 * (far(row, place) if kind == "far" else row[kind][place]) for row in rows]


def report(options: argparse.Namespace, results: dict[int, dict[str, Any]], clip: ClipModel | None) -> str:
    """Tables of all arms and detectors, and what may be said of differences."""
    first = next(iter(results.values()))
    held_out = "; ".join(", ".join(next(iter(by_arm.values()))["held_out"]) for by_arm in results.values())
    how = f"--steps {options.steps} --batch-size {options.batch_size}"
    title, model = "PALM as a training objective", "a small ViT at 32 px from scratch"
    if clip is not None:
        how, title = f"--frozen {options.frozen}", "PALM: a head on embeddings that stand still"
        model = f"{clip.model_name}, {clip.source}"
    lines = [
        f"# {title}",
        "",
        f"`python benchmarks/palm.py {how}`, Python {platform.python_version()}, torch "
        f"{torch.__version__.split('+')[0]}: {model}; {len(results)} seeds, each of which holds out two "
        f"categories ({held_out}). Percent; mean ± half-width of the 95 % interval over seeds. Higher AUROC and "
        "lower FPR are better. Near: the categories held out; far: textures and noise by script.",
    ]
    for arm in first:
        lines += ["", f"## Trained with {arm}", "", "| detector | AUROC near | FPR near | AUROC far | FPR far |"]
        lines.append("|---|---:|---:|---:|---:|")
        for detector in first[arm]["found"]:
            columns = [(kind, place) for kind in ("near", "far") for place in (0, 1)]
            cells = [_cell(values_of(results, arm, detector, *column)) for column in columns]
            lines.append(f"| {detector} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_differences(results), ""])


def _cell(values: list[float]) -> str:
    found = estimate(values)
    return f"{found.mean:.1f}" + ("" if found.half_width is None else f" ± {found.half_width:.1f}")


def _differences(results: dict[int, dict[str, Any]]) -> list[str]:
    """AUROC paired by seed, corrected for the number of comparisons of the table."""
    first = next(iter(results.values()))
    arms = list(first)
    behind = ", behind the head"
    behind = behind if any(name.endswith(behind) for name in first[arms[0]]["found"]) else ""
    pairs = [
        (f"{name}, {arms[0]}, against {other}", (arms[0], name), (arms[0], other))
        for name in (*TRAINED, f"mahalanobis{behind}", f"neighbours{behind}")
        for other in BASELINES
    ]
    pairs += [
        (f"{name}: {arms[0]} against {arm}", (arms[0], name), (arm, name))
        for arm in arms[1:]
        for name in ("trained prototypes, nearest", f"mahalanobis{behind}", f"neighbours{behind}")
    ]
    lines = ["", "## Differences of AUROC", "", "| what | near | | far | |", "|---|---:|---|---:|---|"]
    for what, one, other in pairs:
        cells = []
        for kind in ("near", "far"):
            found = paired_difference(
                values_of(results, *one, kind), values_of(results, *other, kind), 2 * len(pairs)
            )
            half = "" if found.half_width is None else f" ± {found.half_width:.1f}"
            cells += [f"{found.mean:+.1f}{half}", str(verdict(found))]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
