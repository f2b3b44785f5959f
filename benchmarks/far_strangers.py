"""Every kind of detector on a model's embeddings, against near strangers and four kinds of far ones.

    python benchmarks/far_pictures.py --out .cache/far_strangers
    python benchmarks/far_strangers.py runs/demo --far .cache/far_strangers

For each seed two categories of the bundled corpus are held out: near strangers. Detectors learn from the other
categories, but for a fifth of the concepts, whose pictures in all styles are the known to compare with; thresholds
are set by whole concepts, too. Far strangers are the folders that far_pictures.py wrote.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from far_page import DEFAULT, FAR, GAUSSIAN, HEAD, KNOWN, MIXTURE, NEAR, SINGLE, Found, Value, report
from numpy.typing import NDArray
from palm import embedded
from palm_data import labels_of, prepare
from pyarrow import parquet

from protoclip.contract.files import write_text
from protoclip.detection.detector import Detector
from protoclip.detection.fitting import fit_detector
from protoclip.detection.measures import auroc, false_positive_rate
from protoclip.encoders.model import ClipModel
from protoclip.runs.model import load_model
from protoclip.training.palm_head import fit_palm_head

Vectors = NDArray[np.float32]
KINDS: dict[str, dict[str, Any]] = {
    DEFAULT: {"kind": "neighbours"},
    MIXTURE: {"kind": "mixture", "per_class": 6},
    SINGLE: {"kind": "mixture", "per_class": 1},
    GAUSSIAN: {"kind": "mahalanobis"},
    "energy": {"kind": "energy"},
    "max_softmax": {"kind": "max_softmax"},
}


def detectors(known: Vectors, labels: list[str], concepts: list[str], seed: int) -> dict[str, Detector]:
    """All kinds, fit on [N, D]; a fifth of each class's concepts is held out for the threshold."""
    made = {name: fit_detector(known, labels, groups=concepts, seed=seed, **how) for name, how in KINDS.items()}
    return made | {HEAD: fit_palm_head(known, labels, groups=concepts, seed=seed)}


def measured(clip: ClipModel, far: dict[str, list[bytes]], seed: int, out: Path) -> tuple[Found, tuple[str, ...]]:
    """What each detector finds with one choice of categories, and which those are."""
    parts = prepare(seed, out)
    images, labels = labels_of(parts.train)
    unseen = embedded(clip, parts.unseen)
    strangers = {NEAR: embedded(clip, parts.near)} | {name: embedded(clip, own) for name, own in far.items()}
    found: Found = {}
    concepts = parquet.read_table(parts.train, columns=["concept"]).column(0).to_pylist()
    for name, detector in detectors(embedded(clip, images), labels, concepts, seed).items():
        own = detector.score(unseen)
        found[name] = {kind: _value(detector, own, detector.score(rows)) for kind, rows in strangers.items()}
        found[name][FAR] = Value(*np.mean([found[name][kind] for kind in far], axis=0).tolist())
        found[name][KNOWN] = Value(50.0, 95.0, _accepted(detector, own))
    return found, parts.held_out


def _value(detector: Detector, own: NDArray[np.float64], theirs: NDArray[np.float64]) -> Value:
    rates = auroc(own, theirs), false_positive_rate(own, theirs)
    return Value(100 * rates[0], 100 * rates[1], _accepted(detector, theirs))


def _accepted(detector: Detector, scores: NDArray[np.float64]) -> float:
    assert detector.threshold is not None
    return float(100 * (scores >= detector.threshold.value).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run, or name of a model")
    parser.add_argument("--far", type=Path, default=Path(".cache/far_strangers"), help="of far_pictures.py")
    parser.add_argument("--out", type=Path, default=Path(".cache/far_study"), help="for tables of the known")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clip = load_model(options.model)
    far = {
        folder.name: [path.read_bytes() for path in sorted(folder.glob("*.png"))]
        for folder in sorted(options.far.iterdir())
        if folder.is_dir()
    }
    runs = []
    for seed in options.seeds:
        runs.append(measured(clip, far, seed, options.out))
        print(f"seed {seed}: done", flush=True)
    made = (
        f"`make far-strangers`: `python benchmarks/far_strangers.py {options.model}`, Python "
        f"{platform.python_version()}, torch {torch.__version__.split('+')[0]}, {clip.model_name}, {clip.source}"
    )
    text = report(made, {name: len(own) for name, own in far.items()}, runs)
    print(text)
    if options.result is not None:
        write_text(options.result, text)


if __name__ == "__main__":
    main()
