"""What is shared out when there are fewer rows than ranks: WORLD_SIZE=3 RANK=0 … python few_rows.py OUT"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from protoclip.config.schema import ClusteringConfig, TeacherConfig
from protoclip.distributed import collectives
from protoclip.prototypes.following import follow
from protoclip.prototypes.lloyd import assign, lloyd
from protoclip.prototypes.targets import Clusters
from protoclip.prototypes.teacher import own_run, teacher_labels
from protoclip.training.validation import _shared_out


def embeddings(count: int) -> Tensor:
    torch.manual_seed(0)
    tower, items = nn.Linear(4, 3), torch.randn(5, 4)[:count]
    with torch.inference_mode():
        return torch.from_numpy(_shared_out(items, 2, tower))


def centroids() -> Tensor:
    """All points lie on the first rank."""
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    own = points if collectives.is_first() else points[:0]
    found = lloyd(own, 4, num_iterations=5, num_restarts=2, spherical=False, seed=0)
    return found.centroids


def followed() -> dict[str, Tensor]:
    """Every third row is new; a rank in the middle has none of them."""
    generator = torch.Generator().manual_seed(2)
    points, start = torch.randn(60, 3, generator=generator), torch.randn(5, 3, generator=generator)
    labels, is_new = assign(points, start)[0], (torch.arange(60) % 3 == 0) & ((torch.arange(60) - 30).abs() > 11)
    rows = collectives.own_run(torch.arange(60))
    found = follow(points[rows], Clusters(start, labels[rows]), is_new[rows], num_iterations=2)
    return {
        "followed": found.clusters.centroids,
        "followed labels": collectives.fill(found.clusters.labels, rows, 60).float(),
        "followed inertia": torch.tensor(found.inertia),
    }


def teacher() -> Tensor:
    features = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)[own_run(2)]
    clustering = ClusteringConfig(num_iterations=3, num_restarts=1, backend="lloyd")
    return torch.from_numpy(teacher_labels(features, 2, TeacherConfig(num_prototypes=2), clustering, seed=0))


def main() -> None:
    torch.set_num_threads(1)
    with collectives.ranks():
        found = {f"{count} items": embeddings(count) for count in (1, 2, 5)}
        found |= {"centroids": centroids(), "teacher": teacher(), **followed()}
        if collectives.is_first():
            save_file(found, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
