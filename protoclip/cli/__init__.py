"""The command line: one folder or file a group of commands; each imports what it needs when it runs."""

from __future__ import annotations

from . import compare, convert, demo, deploy, evaluate, gateway, models, report, serve  # noqa: F401 - each registers its commands
from .app import app, main
from .benchmark import command as _benchmark  # noqa: F401
from .client import calibrate as _calibrate  # noqa: F401
from .client import class_banks as _class_banks  # noqa: F401
from .client import commands as _client  # noqa: F401
from .client import duplicates as _duplicates  # noqa: F401
from .client import index as _index  # noqa: F401
from .client import index_copy as _index_copy  # noqa: F401
from .client import migrate as _migrate  # noqa: F401
from .client import tune as _tune  # noqa: F401
from .client import ui as _ui  # noqa: F401
from .detect import command as _detect  # noqa: F401
from .detect import evaluate as _detect_evaluate  # noqa: F401
from .detect import names as _detect_names  # noqa: F401
from .doctor import command as _doctor  # noqa: F401
from .export import command as _export  # noqa: F401
from .export import verify as _verify  # noqa: F401
from .load_test import command as _load_test  # noqa: F401
from .train import command as _train  # noqa: F401

__all__ = ["app", "main"]
