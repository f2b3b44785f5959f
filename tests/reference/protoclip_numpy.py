"""ProtoCLIP's losses as loops over NumPy scalars, straight from the formulas (arXiv 2206.10996)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def softmax_over(values: list[float]) -> list[float]:
    peak = max(values)
    weights = [np.exp(v - peak) for v in values]
    return [w / sum(weights) for w in weights]


def info_nce(image: Matrix, text: Matrix, scale: float) -> float:
    total = 0.0
    for rows, columns in ((image, text), (text, image)):
        for i in range(len(rows)):
            probabilities = softmax_over([scale * float(rows[i] @ column) for column in columns])
            total -= np.log(probabilities[i]) / len(rows) / 2
    return total


def sigmoid_loss(image: Matrix, text: Matrix, scale: float, bias: float) -> float:
    total = 0.0
    for i in range(len(image)):
        for j in range(len(text)):
            sign = 1.0 if i == j else -1.0
            total += np.log1p(np.exp(-sign * (scale * float(image[i] @ text[j]) + bias)))
    return total / len(image)


def back_translate(features: Matrix, labels: list[int], num_clusters: int) -> tuple[Matrix, list[int]]:
    means, counts = np.zeros((num_clusters, features.shape[1])), [0] * num_clusters
    for k in range(num_clusters):
        members = [features[i] for i in range(len(features)) if labels[i] == k]
        counts[k] = len(members)
        if members:
            means[k] = sum(members) / len(members)
    return means, counts


def prototype_loss(
    features: Matrix,
    labels: list[int],
    student: Matrix,
    teacher: Matrix | None,
    valid: list[bool],
    scale: float,
    temperature: float,
) -> float:
    clusters = [k for k in range(len(student)) if valid[k]]
    losses = []
    for i, label in enumerate(labels):
        if label < 0 or not valid[label]:
            continue
        log_student = np.log(softmax_over([scale * float(features[i] @ student[k]) for k in clusters]))
        if temperature > 0 and teacher is not None:
            target = softmax_over([float(teacher[label] @ teacher[k]) / temperature for k in clusters])
        else:
            target = [1.0 if k == label else 0.0 for k in clusters]
        losses.append(-sum(t * s for t, s in zip(target, log_student, strict=True)))
    return float(np.mean(losses)) if losses else 0.0


def kmeans_inertia(points: Matrix, centroids: Matrix) -> float:
    return float(sum(min(float(((p - c) ** 2).sum()) for c in centroids) for p in points))
