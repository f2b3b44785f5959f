"""When the numbers of a run are not the server's."""

from __future__ import annotations

from .histogram import Histogram
from .run import Measured
from .settings import Load

_FULL_CORE = 0.8
_LATE_SHARE, _LATE_S = 0.1, 1e-3
_MANY_FAILURES = 0.01
_FEW = 100


def caveats_of(load: Load, measured: Measured, *, in_process: bool) -> tuple[str, ...]:
    """One line for each reason to distrust the numbers, with the way out.

    Args:
        in_process: the model runs in this process, whose CPU time is then the model's.
    """
    latency = Histogram()
    kinds = measured.tally.kinds.values()
    for kind in kinds:
        latency.merge(kind.latency)
    total = sum(kind.requests for kind in kinds)
    failed = sum(sum(kind.failures.values()) for kind in kinds)
    unsent = sum(kind.failures.get("not sent", 0) for kind in kinds)
    found = []
    if measured.interrupted:
        found.append("interrupted: the numbers are of what was measured until then")
    if not in_process and measured.cpu_share > _FULL_CORE:
        found.append(
            f"sending took {measured.cpu_share:.2f} of a core: the load generator may have been the limit, not "
            "the server: run several of them, on other machines, and add up their rates"
        )
    late_s, p50_s = measured.lateness.quantile_s(0.99), latency.quantile_s(0.5)
    if late_s is not None and late_s > max(_LATE_S, _LATE_SHARE * (p50_s or 0.0)):
        found.append(
            f"1 % of planned requests were sent more than {late_s * 1e3:.1f} ms late though a client was free: "
            "this machine is too busy, and the latencies hold its delays: run it where nothing else runs"
        )
    if unsent:
        found.append(
            f"{unsent} of {total} planned requests were not sent: the server did not keep up with --rate "
            f"{load.rate:g} and {load.clients} requests at once: lower the one or raise --max-in-flight"
        )
    if total and failed > _MANY_FAILURES * total:
        found.append(
            f"{failed} of {total} requests failed: latencies are of the others, which may be the lucky ones"
        )
    if latency.count < _FEW:
        found.append(f"only {latency.count} answers: percentiles need more: raise --duration")
    return tuple(found)
