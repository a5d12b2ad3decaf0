"""The pause after failures in a row, which grows with each of them.

Theory. A row of failures begins with the first one and ends with a success. `pause` is the pause after the latest
failure of the row, and 0 outside of one. Whoever tries something again and again asks for it after each failure, and
waits for that long; nothing here reads a clock.
"""

from __future__ import annotations


class BackOff:
    """Pauses in seconds: `first`, then each twice as long as the one before, up to `ceiling`."""

    __slots__ = ("_ceiling", "_first", "pause")

    def __init__(self, first: float = 0.1, ceiling: float = 30.0) -> None:
        self._first = first
        self._ceiling = ceiling
        self.pause = 0.0

    def failed(self) -> float:
        """Note a failure; returns the seconds to wait before the next attempt."""
        self.pause = min(self.pause * 2 or self._first, self._ceiling)
        return self.pause

    def succeeded(self) -> None:
        """Note a success: after the next failure the pause is the first one again."""
        self.pause = 0.0
