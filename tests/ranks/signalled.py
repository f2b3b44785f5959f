"""As train_shapes.py, and a SIGTERM comes to the first rank alone, when the third step is logged."""

from __future__ import annotations

import os
import signal
from typing import Any
from unittest import mock

import train_shapes

from protoclip.distributed import collectives
from protoclip.runs.metrics import MetricsLog


def signalled(log: MetricsLog, kind: str, **values: Any) -> None:
    write(log, kind, **values)
    if collectives.is_first() and (kind, values["step"]) == ("step", 3):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    write = MetricsLog.write
    with mock.patch.object(MetricsLog, "write", signalled):
        train_shapes.main()
