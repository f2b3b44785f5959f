"""Evaluates a run: WORLD_SIZE=2 RANK=0 … python evaluate_run.py ARCHITECTURE RUN OUT

Each rank writes what it found beside OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

from protoclip.distributed import collectives
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()

import open_clip  # noqa: E402  after the cure

from protoclip.evaluation.run import evaluate_run  # noqa: E402

open_clip.add_model_config(Path(sys.argv[1]))
with collectives.ranks("cpu"):
    found = evaluate_run(Path(sys.argv[2]), batch_size=4)
    Path(f"{sys.argv[3]}.{collectives.rank()}").write_text(found.to_json())
