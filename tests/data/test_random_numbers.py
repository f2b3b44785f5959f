from __future__ import annotations

import numpy as np

from protoclip.data.random_numbers import generator, torch_seed, uniforms

INDEX = np.arange(20_000)
VISIT = np.zeros(20_000, dtype=np.int64)


def test_draws_are_uniform_and_uncorrelated() -> None:
    draws = uniforms(0, "crop", INDEX, VISIT, 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    # Standard error of a mean of 20,000 uniforms is 0.002, of a correlation 0.007.
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.01)
    counts = np.stack([np.histogram(column, bins=10, range=(0, 1))[0] for column in draws.T])
    np.testing.assert_allclose(counts, 2000, atol=220)
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.035
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.035


def test_a_draw_depends_on_what_it_is_for_and_not_on_its_company() -> None:
    whole = uniforms(5, "crop", INDEX, VISIT, 3)
    assert np.array_equal(uniforms(5, "crop", INDEX[7:9], VISIT[7:9], 3), whole[7:9])
    assert np.array_equal(uniforms(5, "crop", INDEX, VISIT, 2), whole[:, :2])


def test_seed_stream_and_visit_change_every_draw() -> None:
    base = uniforms(0, "crop", INDEX, VISIT, 1)
    for other in (
        uniforms(1, "crop", INDEX, VISIT, 1),
        uniforms(0, "text", INDEX, VISIT, 1),
        uniforms(0, "crop", INDEX, VISIT + 1, 1),
    ):
        assert np.mean(np.abs(other - base) < 1e-6) < 1e-3
        assert abs(np.corrcoef(other[:, 0], base[:, 0])[0, 1]) < 0.035


def test_generators_of_other_purposes_differ() -> None:
    assert generator(0, "a").random() != generator(0, "b").random()
    assert torch_seed(0, "a") == torch_seed(0, "a")
    assert torch_seed(0, "a", 1) != torch_seed(0, "a", 2)
