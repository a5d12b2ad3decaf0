"""What saying no costs: clients whose address is not allowed, against the same server saying yes."""

from __future__ import annotations

from bench.load import Drive
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "clients refused by address, and served"
COLUMNS = RATE_COLUMNS
BASELINE = "reference, refuses"
TARGETS = (Target("fastinetd, refuses", "rate", at_least=8.0, over="fastinetd, serves"),)
CONTENDERS = ("fastinetd", "reference", "xinetd")
ELSEWHERE = "192.0.2.1"  # an address for documentation: never a client's


def cases(bench: Bench) -> dict[str, Case]:
    def serves(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1))

    def refuses(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1, only_from=ELSEWHERE), Drive(refused=True))

    found: dict[str, Case] = {}
    for name in CONTENDERS:
        if name in bench.peers:
            found[f"{name}, serves"] = serves(name)
            found[f"{name}, refuses"] = refuses(name)
    return found
