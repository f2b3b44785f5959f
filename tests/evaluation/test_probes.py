"""Probes: separable data, the choice on held-out groups, and a planted leak."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.evaluation.probes import fit_linear, fit_neighbours, hold_out_groups


def blobs(rng: np.random.Generator, groups: int, copies: int, noise: float) -> tuple[np.ndarray, ...]:
    """Unit vectors around one axis a class; every group is of one class and has `copies` rows."""
    labels = np.repeat(np.arange(groups) % 4, copies)
    features = np.eye(4, 12)[labels] + noise * rng.normal(size=(len(labels), 12))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), labels, np.repeat(np.arange(groups), copies)


@pytest.mark.parametrize("fit", [fit_linear, fit_neighbours])
def test_separable_classes_are_told_apart(fit) -> None:
    features, labels, groups = blobs(np.random.default_rng(0), 60, 3, 0.05)
    probe = fit(features, labels, groups, 4)
    unseen, truth, _ = blobs(np.random.default_rng(1), 40, 1, 0.05)
    assert probe.validation_accuracy == 1.0
    assert (probe.predict(unseen) == truth).all()


def test_ties_go_to_the_strongest_decay_and_the_smallest_k() -> None:
    features, labels, groups = blobs(np.random.default_rng(0), 60, 3, 0.05)
    assert fit_linear(features, labels, groups, 4, decays=[1e-3, 1.0, 1e-1]).decay == 1.0
    assert fit_neighbours(features, labels, groups, 4, ks=[5, 1, 3]).k == 1


@pytest.mark.parametrize("fit", [fit_linear, fit_neighbours])
def test_labels_without_meaning_give_chance(fit) -> None:
    rng = np.random.default_rng(0)
    features, labels, groups = blobs(rng, 400, 1, 0.3)
    probe = fit(features, rng.permutation(labels), groups, 4)
    assert probe.validation_accuracy < 0.45
    unseen, truth, _ = blobs(rng, 400, 1, 0.3)
    assert (probe.predict(unseen) == truth).mean() < 0.55


def test_groups_are_never_on_both_sides() -> None:
    groups = np.random.default_rng(0).integers(50, size=600)
    held = hold_out_groups(groups)
    assert not set(groups[held]) & set(groups[~held])
    assert len(set(groups[held])) == 10
    assert (held == hold_out_groups(groups)).all()
    assert (held != hold_out_groups(groups, seed=1)).any()
    assert hold_out_groups(np.array(["a", "b"])).sum() == 1
    with pytest.raises(ValueError, match="two groups"):
        hold_out_groups(np.array(["a", "a"]))


def named_places(num_features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every group has a place of its own and a label of chance: known groups can be learnt by heart, new
    ones can't be known."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(120, num_features))
    labels = np.where(rng.random(120) < 0.7, 0, 1 + np.arange(120) % 3)
    groups = np.repeat(np.arange(120), 6)
    features = places[groups] + 0.01 * rng.normal(size=(720, num_features))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), labels[groups], groups


def test_learning_groups_by_heart_does_not_win_the_choice_of_k() -> None:
    features, labels, groups = named_places(16)
    probe = fit_neighbours(features, labels, groups, 4)
    leaky = fit_neighbours(features, labels, np.arange(720), 4)
    assert (leaky.k, leaky.validation_accuracy > 0.99) == (1, True)
    assert (probe.k > 1, probe.validation_accuracy < 0.85) == (True, True)


def test_learning_groups_by_heart_does_not_win_the_choice_of_decay() -> None:
    features, labels, groups = named_places(150)
    probe = fit_linear(features, labels, groups, 4)
    leaky = fit_linear(features, labels, np.arange(720), 4)
    assert leaky.validation_accuracy > 0.99
    assert probe.validation_accuracy < 0.85
    assert probe.decay > leaky.decay


def test_the_linear_choice_takes_the_decay_that_generalises() -> None:
    """Many noisy features and some wrong labels: hardly any decay learns them by heart."""
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=600)
    labels = np.where(rng.random(600) < 0.15, 1 - truth, truth)
    features = rng.normal(size=(600, 300)).astype(np.float32)
    features[:, :4] += truth[:, None]
    probe = fit_linear(features, labels, np.arange(600), 2, decays=[1e-6, 1.0])
    by_heart = fit_linear(features, labels, np.arange(600), 2, decays=[1e-6])
    assert probe.decay == 1.0
    assert by_heart.validation_accuracy < probe.validation_accuracy


def test_a_class_without_rows_is_never_predicted() -> None:
    features, labels, groups = blobs(np.random.default_rng(0), 60, 1, 0.05)
    labels = np.where(labels == 2, 1, labels)
    for fit in (fit_linear, fit_neighbours):
        assert 2 not in fit(features, labels, groups, 7).predict(features)


def test_bad_input_is_refused() -> None:
    features, labels, groups = blobs(np.random.default_rng(0), 20, 1, 0.05)
    broken = features.copy()
    broken[0, 0] = np.inf
    for fit in (fit_linear, fit_neighbours):
        with pytest.raises(ValueError, match="not finite"):
            fit(broken, labels, groups, 4)
        with pytest.raises(ValueError, match=r"\[0, 3\)"):
            fit(features, labels, groups, 3)
        with pytest.raises(ValueError, match="for each of 20"):
            fit(features, labels[:-1], groups, 4)
