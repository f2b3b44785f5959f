"""A lost accelerator is made again by who writes, in a thread beside it: neither a writer nor a reader waits."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from protoclip.contract.errors import IndexBusyError

from .approximate.files import AcceleratorWarning
from .approximate.tuned import AcceleratorFile

_NICE = 10


class Mending:
    """Of one index, for the `Index` that writes to it. May be shared between threads."""

    def __init__(self, folder: Path, make: Callable[[], object]) -> None:
        """`make` makes the accelerator anew; it is called in another thread."""
        self._folder, self._make = folder, make
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        # By digest: what need not be looked at again.
        self._whole = self._given_up = ""

    def look(self, file: AcceleratorFile | None, is_lost: Callable[[AcceleratorFile, bool], bool]) -> None:
        """Begins to make the accelerator that an index names anew where it is lost; says so, and why if it can't.

        Args:
            file: None where the index has none.
            is_lost: whether it is, looked at closely or by its name and size alone.
        """
        if file is None:
            return
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            error, self._error = self._error, None
            if error is not None:
                self._given_up = file.digest
            begins = file.digest != self._given_up and is_lost(file, file.digest != self._whole)
            if begins:
                # It ends before the interpreter does, which waits for it.
                self._thread = threading.Thread(target=self._run, name="protoclip-mending")
                self._thread.start()
            else:
                self._whole = file.digest
        if begins:
            self._warn(f"{file.name} is missing or damaged, and is made anew beside this call")
        elif error is not None:
            self._warn(f"{file.name} couldn't be made anew ({error}): run `protoclip index tune`")

    def wait(self) -> None:
        """Until what was begun has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":
            # Of this thread alone, and of those that it starts.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            self._make()
        except IndexBusyError:
            # Another process tunes it.
            return
        except Exception as error:  # noqa: BLE001 - the next call that writes says it
            self._error = error

    def _warn(self, message: str) -> None:
        warnings.warn(
            f"{self._folder}: {message}; until then searches compare with every vector",
            AcceleratorWarning,
            stacklevel=6,
        )
