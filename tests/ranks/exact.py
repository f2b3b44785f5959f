"""Every loss of a step with its gradients, in float64, on as many ranks as a launcher started.

    WORLD_SIZE=2 RANK=0 … python exact.py OUT [BROKEN …]

All ranks hold the same small network, with BatchNorm in a tower in some cases, and their part of the same batch.
The pairs at the rows BROKEN are left out of the batch, and some positions of the episode out of its clusters.
The first rank writes OUT: for every case the mean loss, all gradients, and the running statistics.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.distributed import collectives
from protoclip.distributed.batch_norm import SyncedBatchNorm
from protoclip.prototypes.clustering import cluster
from protoclip.prototypes.features import Shard
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.objective import Rows
from protoclip.prototypes.targets import Clusters, EpisodeTargets, ExternalClusters, make_targets
from protoclip.training.optim import Schedule, Stage, make_optimizer, named_parameters
from protoclip.training.step import TrainStep

BATCH, EPISODE = 24, 96
BATCH_NORM = "with BatchNorm in a tower"
BROKEN = [int(row) for row in sys.argv[2:]]


class SmallClip(nn.Module):
    """Towers of linear layers over 'pictures' [b, 3, 2, 2] and 'tokens' [b, 5].

    Args:
        has_batch_norm: over all ranks' pictures.
    """

    def __init__(self, has_batch_norm: bool) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Flatten(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 6))
        if has_batch_norm:
            self.visual.insert(2, SyncedBatchNorm(10))
        self.token_embedding = nn.Embedding(11, 7)
        self.text_projection = nn.Linear(7, 6)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.logit_bias = nn.Parameter(torch.tensor(-3.0))

    def encode_image(self, images: Tensor) -> Tensor:
        return self.visual(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_projection(self.token_embedding(tokens).mean(dim=1).tanh())


def settings(
    alignment: str, temperature: float, back_translation: bool, accumulation: int, source: str = "extract"
) -> RunConfig:
    return build_config(
        {
            "data": {"path": "none"},
            "loss": {
                "alignment": alignment,
                "target_temperature": temperature,
                "back_translation": back_translation,
            },
            "prototypes": {"source": source},
            "train": {"batch_size": BATCH, "steps": 1, "accumulation": accumulation},
        },
        "test",
    )


def cases() -> Iterator[tuple[str, RunConfig, Stage]]:
    for stage in (stage for stage in Stage if stage is not Stage.PALM):
        yield stage.value, settings("infonce", 0.01, True, 1), stage
        yield f"{stage.value} {BATCH_NORM}", settings("infonce", 0.01, True, 1), stage
    for alignment, temperature, back, accumulation, source in itertools.product(
        ("infonce", "sigmoid"), (0.01, 0.0), (True, False), (1, 3), ("extract", "stream")
    ):
        name = f"{alignment} τ={temperature} back={back} accumulation={accumulation} {source}"
        yield name, settings(alignment, temperature, back, accumulation, source), Stage.MAIN


def own_part(rows: Tensor) -> Tensor:
    return rows.reshape(collectives.world_size(), -1, *rows.shape[1:])[collectives.rank()]


def own(rows: Tensor) -> Tensor:
    """This rank's part of the batch's rows, without the broken ones."""
    return own_part(rows)[~torch.isin(own_part(torch.arange(BATCH)), torch.tensor(BROKEN, dtype=torch.int64))]


def targets(draw: torch.Generator) -> tuple[EpisodeTargets, Tensor]:
    """From clusters of the whole episode, and the external teacher's clusters of its positions."""
    image, text = (nn.functional.normalize(torch.randn(EPISODE, 4, generator=draw), dim=1).double() for _ in "it")
    positions = own_part(torch.randperm(EPISODE, generator=draw))
    positions = positions[positions % 7 > 0] if BROKEN else positions
    clusters = []
    for features in (image, text):
        found = cluster(features[positions].float(), 8, build_config_of_clustering(), seed=3).clusters
        labels = collectives.fill(found.labels + 1, positions, EPISODE) - 1
        clusters.append(Clusters(found.centroids.double(), labels))
    external = torch.randint(0, 5, (EPISODE,), generator=draw)
    external[::4] = -1
    shard = Shard(image[positions], text[positions], positions)
    found = ExternalClusters(external, 7)
    return make_targets(0, shard, (clusters[0], clusters[1]), found, back_translation=True), external


def build_config_of_clustering():  # type: ignore[no-untyped-def]
    return settings("infonce", 0.01, True, 1).clustering.model_copy(
        update={"backend": "lloyd", "num_iterations": 5, "num_restarts": 2}
    )


@cache
def inputs() -> tuple[Tensor, Tensor, Tensor, EpisodeTargets, Tensor]:
    """The same for all cases: pictures, tokens and positions [B], targets, and the external clusters [m]."""
    draw = torch.Generator().manual_seed(1)
    images, tokens = torch.randn(BATCH, 3, 2, 2, generator=draw), torch.randint(0, 11, (BATCH, 5), generator=draw)
    positions = torch.randperm(EPISODE, generator=draw)[:BATCH]
    return images, tokens, positions, *targets(draw)


def run_case(config: RunConfig, stage: Stage, has_batch_norm: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    module, heads = SmallClip(has_batch_norm), Heads(6, 4, hidden_dim=9)
    step = TrainStep(module, heads, make_optimizer(module, heads, config.optim), Schedule(1, 1, 0, 0), config)
    step.enter(stage)
    images, tokens, positions, aims, external = inputs()
    rows = Rows(own(positions), external[own(positions)])
    losses = step.backward(own(images), own(tokens), rows, aims if stage is Stage.MAIN else None)
    found = {"loss": collectives.mean(losses.total.detach()).reshape(1)}
    for name, parameter in named_parameters(module, heads):
        if parameter.grad is not None:
            found[f"gradient of {name}"] = parameter.grad.clone()
    for name, buffer in [*module.named_buffers(), *heads.named_buffers(prefix="heads")]:
        found[f"statistic {name}"] = buffer.double().reshape(-1).clone()
    found |= {
        "labels": aims.image_clusters.labels.double(),
        "prototypes": aims.image_from_text.student_prototypes.clone(),
    }
    return found


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    with collectives.ranks():
        for name, config, stage in cases():
            case = run_case(config, stage, name.endswith(BATCH_NORM))
            results |= {f"{name}: {key}": value.contiguous() for key, value in case.items()}
        differing = [name for name, value in results.items() if (collectives.gather_rows(value) != value).any()]
        if differing:
            raise SystemExit(f"the ranks differ in {differing}")
        if collectives.is_first():
            save_file(results, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
