"""A repository that several servers serve is changed by none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from protoclip.contract.errors import ConfigError
from serving.triton.shared_repository import SharedRepository


def test_one_server_may_change_what_it_serves_alone(tmp_path: Path) -> None:
    first = SharedRepository(tmp_path)
    with first.changed():
        pass
    second = SharedRepository(tmp_path)
    for server in (first, second):
        with pytest.raises(ConfigError, match="another server serves this repository too"), server.changed():
            pass
    second.close()
    with first.changed():
        pass
    first.close()
    first.close()


def test_a_server_that_starts_meanwhile_does_not_stop_a_change(tmp_path: Path) -> None:
    first = SharedRepository(tmp_path)
    with first.changed():
        SharedRepository(tmp_path).close()
    with first.changed():
        pass
    first.close()
