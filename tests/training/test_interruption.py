"""Signals that come more than once."""

from __future__ import annotations

import os
import signal

import pytest

from protoclip.interruption import Interrupted, Interruption


def test_a_launchers_second_sigterm_leaves_the_checkpoint_alone() -> None:
    """Each host's launcher passes its own on, and the ranks may have agreed on the first one's."""
    with Interruption() as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            interruption.raise_if_asked("saved")
    assert caught.value.exit_code == 143


def test_a_second_ctrl_c_ends_at_once() -> None:
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
