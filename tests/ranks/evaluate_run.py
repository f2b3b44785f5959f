"""Evaluates a run and compares it with itself: WORLD_SIZE=2 RANK=0 … python evaluate_run.py ARCHITECTURE RUN OUT

Each rank writes what it found beside OUT.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from protoclip.distributed import collectives
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()

import open_clip  # noqa: E402  after the cure

from protoclip.evaluation.compared_arms import Arm  # noqa: E402
from protoclip.evaluation.comparing import compare_arms  # noqa: E402
from protoclip.evaluation.features import TorchModel  # noqa: E402
from protoclip.evaluation.run import evaluate_run, run_subsets  # noqa: E402
from protoclip.runs.files import load_run_config  # noqa: E402
from protoclip.runs.model import load_model  # noqa: E402

open_clip.add_model_config(Path(sys.argv[1]))
with collectives.ranks("cpu"):
    run = Path(sys.argv[2])
    found = evaluate_run(run, batch_size=4)
    Path(f"{sys.argv[3]}.{collectives.rank()}").write_text(found.to_json())
    train, subsets = run_subsets(load_run_config(run))
    models = [Arm(name, (name,), (lambda: TorchModel(load_model(run)),)) for name in ("a", "b")]
    kept = replace(models[1], features=(run / "features_of_b",))
    asked = {"group_column": "concept", "class_columns": ["kind"], "train": train, "batch_size": 4}
    compared = compare_arms([models[0], kept], subsets["new"], "new", **asked)
    Path(f"{sys.argv[3]}.compared.{collectives.rank()}").write_text(json.dumps(asdict(compared.comparison)))
