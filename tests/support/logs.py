"""What tests of log sinks share: a clock that is set by hand, and the reports of trouble that a sink makes."""

from __future__ import annotations

from fastinetd.logs.lines import Level

Reports = list[tuple[Level, str]]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
