"""`metrics.jsonl`: one JSON object per line, appended during training."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from protoclip.contract.errors import DataError, ProtoclipError
from protoclip.contract.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends to a run's metrics; a resumed run drops the lines after its checkpoint.

    Args:
        resume_step: lines of later steps are removed, and of clusterings at that step, which come after the
            checkpoint and are made again; 0 starts an empty file.
        silent: write nothing, because another rank writes.
    """

    def __init__(self, run: Path, resume_step: int, *, silent: bool = False) -> None:
        self._stream: IO[str] | None = None
        if silent:
            return
        path = run / METRICS_FILE
        before = read_metrics(run) if resume_step else []
        kept = [line for line in before if line["step"] < resume_step + (line["kind"] != "episode")]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stream = path.open("a", encoding="utf-8")

    def write(self, kind: str, **values: Any) -> None:
        """One line; floats are rounded to 6 significant digits.

        Raises:
            ProtoclipError: the disk is full.
        """
        if self._stream is None:
            return
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        try:
            self._stream.write(json.dumps({"kind": kind, **rounded}) + "\n")
            self._stream.flush()
        except OSError as error:
            raise ProtoclipError(
                f"{self._stream.name}: can't be written: {error.strerror}: resume from the last checkpoint"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Every line is flushed; only a line whose flush failed is left, and closing would try it again.
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All complete lines; a partial last line, left by a killed process, is left out.

    Raises:
        DataError: there is no such file.
    """
    path = run / METRICS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
