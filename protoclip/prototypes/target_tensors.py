"""An episode's targets to and from named tensors, as a checkpoint holds them."""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import Target
from .targets import Clusters, EpisodeTargets


def tensors_of_targets(targets: EpisodeTargets) -> dict[str, Tensor]:
    """All of `targets`; no two tensors share memory."""
    tensors = {"number": torch.tensor(targets.number)}
    for name in ("image_clusters", "text_clusters"):
        clusters: Clusters = getattr(targets, name)
        tensors |= {f"{name}.centroids": clusters.centroids, f"{name}.labels": clusters.labels}
    for name in ("image_from_text", "text_from_image", "image_from_external", "text_from_external"):
        target: Target | None = getattr(targets, name)
        if target is not None:
            tensors |= {f"{name}.student_prototypes": target.student_prototypes, f"{name}.valid": target.valid}
    if targets.pairs is not None:
        tensors["pairs"] = targets.pairs
    # Cloned: without back translation two names share a tensor, which safetensors rejects.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def targets_of_tensors(tensors: dict[str, Tensor]) -> EpisodeTargets:
    """The inverse of `tensors_of_targets`.

    Raises:
        KeyError: a tensor is missing.
    """
    image, text = (
        Clusters(tensors[f"{name}.centroids"], tensors[f"{name}.labels"])
        for name in ("image_clusters", "text_clusters")
    )

    def target(name: str, centroids: Tensor | None) -> Target:
        return Target(tensors[f"{name}.student_prototypes"], tensors[f"{name}.valid"], centroids)

    with_teacher = "image_from_external.valid" in tensors
    return EpisodeTargets(
        number=int(tensors["number"]),
        image_clusters=image,
        text_clusters=text,
        image_from_text=target("image_from_text", text.centroids),
        text_from_image=target("text_from_image", image.centroids),
        image_from_external=target("image_from_external", None) if with_teacher else None,
        text_from_external=target("text_from_external", None) if with_teacher else None,
        pairs=tensors.get("pairs"),
    )
