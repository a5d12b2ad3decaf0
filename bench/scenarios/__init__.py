"""The scenarios, in the order they run. To add one: write the file, add it here."""

from __future__ import annotations

from typing import cast

from bench.scenario import Scenario
from bench.scenarios import (
    ballast,
    children,
    crowded,
    exec,
    first_io,
    idle,
    latency,
    parked,
    payload,
    prefork,
    refuse,
    services,
    worker,
    zygote,
)

SCENARIOS: dict[str, Scenario] = {
    module.__name__.rpartition(".")[2]: cast(Scenario, module)
    for module in (
        *(exec, latency, services, children, crowded, ballast, refuse, idle, payload),
        *(zygote, prefork, worker, first_io, parked),
    )
}
