"""Signals that come more than once."""

from __future__ import annotations

import os
import signal

import pytest

from protoclip.distributed import collectives
from protoclip.distributed.interruption import Interrupted, Interruption


def test_a_launchers_second_sigterm_leaves_the_checkpoint_alone() -> None:
    """Each host's launcher passes its own on, and the ranks may have agreed on the first one's."""
    with Interruption() as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        interruption.agree()
        with pytest.raises(Interrupted) as caught:
            interruption.raise_if_asked("saved")
    assert caught.value.exit_code == 143


def test_a_second_ctrl_c_ends_at_once() -> None:
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_the_other_ranks_do_not_know_of_changes_nothing_yet() -> None:
    """A rank that saved on its own would wait for the others, who are in the next step's collective."""
    with Interruption() as interruption:
        interruption.agree()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not interruption.asked
        interruption.raise_if_asked("saved")
        interruption.agree()
        assert interruption.asked


def test_a_signal_that_comes_while_the_ranks_agree_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = collectives.largest

    def interrupted(*numbers: int) -> tuple[int, ...]:
        os.kill(os.getpid(), signal.SIGTERM)
        return largest(*numbers)

    with Interruption() as interruption:
        with monkeypatch.context() as patch:
            patch.setattr(collectives, "largest", interrupted)
            interruption.agree()
        interruption.agree()
        assert interruption.asked
