"""The bounds and names that the counters of a section are made by."""

LATENCY_BOUNDS: tuple[float, ...]
SESSION_BOUNDS: tuple[float, ...]
ERRNO_NAMES: tuple[str, ...]
