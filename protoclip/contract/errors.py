"""The errors that people see.

    ProtoclipError              exit code 2: something the user can fix
    ├── ConfigError             a setting, an option or a column
    ├── DataError               a data file or what is in it
    ├── ModelError              a model name, a run, an artifact or a checkpoint
    ├── ItemError               one bad picture or text of a batch
    ├── ServerError             the server refused the request, can't be reached, or took too long
    ├── IndexFileError          a search index, or one made with another model
    │   └── IndexBusyError      another process writes to it
    └── VerdictError            exit code 1: the work was done and the verdict is "failed"

Every message is one line: what is wrong, in which field or file, and what to do.
"""

from __future__ import annotations


class ProtoclipError(Exception):
    """Base of all errors that the command line prints as one line."""

    exit_code = 2


class ConfigError(ProtoclipError):
    """A setting has a wrong value, or two settings contradict each other."""


class DataError(ProtoclipError):
    """A data file is missing, unreadable or lacks a column."""


class ModelError(ProtoclipError):
    """A model name is unknown, or a run, artifact or checkpoint can't be used."""


class ItemError(ProtoclipError):
    """One item of a batch is bad; the others are not affected.

    Attributes:
        position: place of the item in the batch, from 0.
        reason: what is wrong with it, without the position.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"item {position}: {reason}")
        self.position = position
        self.reason = reason


class ServerError(ProtoclipError):
    """The server can't be reached, refused the request, or the deadline passed."""


class IndexFileError(ProtoclipError):
    """A search index is damaged, or was made with another model."""


class IndexBusyError(IndexFileError):
    """Another process writes to the search index."""


class StoreUnavailable(ServerError):
    """The engine that holds a search index can't be reached, or ends the connection."""


class StoreRefused(ConfigError):
    """The engine that holds a search index doesn't let this user in, or not do what was asked for."""


class VerdictError(ProtoclipError):
    """The work was done, but the verdict is "failed"."""

    exit_code = 1
