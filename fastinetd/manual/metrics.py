"""Writes docs/metrics.md from the table of metrics: `python -m fastinetd.manual.metrics > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.utils import floatToGoString

from fastinetd.core.counters import ERRNO_NAMES, LATENCY_BOUNDS, SESSION_BOUNDS
from fastinetd.monitor.metrics import (
    METHOD_LABELS,
    METRICS,
    POINT_LABELS,
    POOL_STATE_LABELS,
    REASON_LABELS,
    RECYCLING_LABELS,
    STATUS_LABELS,
)
from fastinetd.plan.pool_plan import POOL_REFUSALS

_INTRODUCTION = """\
# Metrics

`fastinetd --metrics [ADDRESS]:PORT` serves these on `/metrics`, as Prometheus text or OpenMetrics,
whichever the scraper asks for. Every sample of a service is there from the start, at 0. `service`
is the service's `id`; services that share an id are summed. No label holds a client's address.

This page is made from the table in `fastinetd/monitor/metrics.py`:
`python -m fastinetd.manual.metrics > docs/metrics.md`.

| metric | type | labels | meaning |
|---|---|---|---|
"""

_HEALTH = """\

`/-/healthy` answers 200 while the process that serves this port lives; `/-/ready` answers 200 when
every service that is configured listens on all its addresses, and 503 when not, with a line for each
that does not and why (a port that is taken, an error in its configuration, a port that `over_rate =
close` has closed). `/-/ready?service=ID` asks for one, 404 where there is none of that id.
"""


def metrics_page() -> str:
    """The text of docs/metrics.md."""
    rows = [
        f"| `{entry.name}` | {entry.type} | {', '.join(f'`{label}`' for label in entry.labels)} | {entry.help} |\n"
        for entry in METRICS
    ]
    values = [f"| {label} | {', '.join(f'`{word}`' for word in words)} |\n" for label, words in _label_values().items()]
    return "".join(
        [
            _INTRODUCTION,
            *rows,
            "\nA histogram has the samples `_bucket` (with the label `le`), `_sum` and `_count`.\n\n",
            "| label | values |\n|---|---|\n",
            *values,
            _HEALTH,
        ]
    )


def _label_values() -> dict[str, Iterable[str]]:
    """Label -> its values; a label whose values differ from metric to metric has an entry for each."""

    def bounds(of: Iterable[float]) -> list[str]:
        """The values of `le` for the upper bounds of buckets."""
        return [*map(floatToGoString, of), "+Inf"]

    return {
        "`reason` of `fastinetd_connections_rejected_total`": [name for name, _ in REASON_LABELS],
        "`reason` of `fastinetd_pool_recycled_total`": [name for name, _ in RECYCLING_LABELS],
        "`reason` of `fastinetd_pool_refused`": POOL_REFUSALS,
        "`errno`": ERRNO_NAMES,
        "`method`": METHOD_LABELS,
        "`mode`": ("user", "system"),
        "`point`": POINT_LABELS,
        "`state`": [name for name, _ in POOL_STATE_LABELS],
        "`status`": [name for name, _ in STATUS_LABELS],
        "`le` of `fastinetd_spawn_latency_seconds`": bounds(LATENCY_BOUNDS),
        "`le` of `fastinetd_session_seconds`": bounds(SESSION_BOUNDS),
    }


if __name__ == "__main__":
    print(metrics_page(), end="")
