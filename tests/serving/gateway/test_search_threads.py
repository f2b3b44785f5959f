"""Products of a search stay in the thread that asks for them."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from serving.gateway.server import use_one_core_a_search


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.mark.parametrize(
    ("given", "expected"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2), ({"OMP_NUM_THREADS": "2"}, 2)]
)
def test_one_unless_the_environment_says_otherwise(
    given: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with threadpool_limits(limits=2, user_api="blas"):
        use_one_core_a_search()
        assert blas_threads() == {expected}
