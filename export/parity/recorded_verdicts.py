"""Whether a manifest says of each engine's verdict what the report of it says, which lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protoclip.contract.manifest import Engine, Manifest

from .checks import Check, bounded, not_checked

VERDICTS = "verdicts"


def check_verdicts(folder: Path, manifest: Manifest) -> Check:
    """The check that outcome, largest batch and numbers of samples of every engine's verdict are its report's.

    A server is told the outcome, and its batches are judged by the largest that was compared: both stand in the
    manifest. Not checked where the report is missing, or an earlier version wrote it.
    """
    wrong = []
    for engine in manifest.engines:
        path = Path(folder) / engine.verdict.report_file
        try:
            found = _summary(json.loads(path.read_bytes()), engine)
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            return not_checked(VERDICTS, f"{path} says nothing of {engine.name} that can be read: export again")
        said = {name: getattr(engine.verdict, name) for name in found}
        wrong += [
            f"{engine.name}: the manifest says {name}={said[name]}, and {engine.verdict.report_file} {value}"
            for name, value in found.items()
            if said[name] != value and not (name == "largest_batch" and said[name] is None)
        ]
    return bounded(VERDICTS, not wrong, "; ".join(wrong), "; ".join(wrong) or "equal", "equal")


def _summary(report: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """What the manifest's verdict is made of, as `Report.verdict` makes it."""
    entry = next(one for one in report["engines"] if one["name"] == engine.name)
    ran = entry["ran"]
    sizes = [int(size) for size in entry["image"]["by_batch_size"]]
    return {
        "passed": entry["passed"] and ran,
        "largest_batch": max(sizes) if ran else None,
        "num_images": report["num_images"] if ran else 0,
        "num_texts": report["num_texts"] if ran else 0,
    }
