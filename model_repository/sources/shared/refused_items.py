"""How many items of requests were bad, as a counter in the server's metrics.

Triton's own metrics do not tell them from failures: one refused request counts twice as `reason="OTHER"`, and a
bad item beside good ones nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton_python_backend_utils as pb_utils

NAME = "protoclip_refused_items"


class RefusedItems:
    """The counter of one model, `protoclip_refused_items{model="…"}`."""

    def __init__(self, model: str) -> None:
        """`model` is the name of the model that prepares the items."""
        description = "Number of pictures and texts that were refused, each with a reason in its answer"
        self._family = pb_utils.MetricFamily(NAME, description, pb_utils.MetricFamily.COUNTER)
        self._metric = self._family.Metric(labels={"model": model})

    def count(self, reasons: Sequence[str]) -> None:
        """Adds the reasons that are not empty; a call to the server, so none where all items are good."""
        refused = sum(1 for reason in reasons if reason)
        if refused:
            self._metric.increment(refused)
