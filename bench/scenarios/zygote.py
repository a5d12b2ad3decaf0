"""The small program of `exec`, unchanged, forked from a copy of it that is held just before main: no exec, no dynamic
linker. Every other server of the comparison has to exec, but the one that only forks itself: the least that a fork
costs."""

from __future__ import annotations

from bench import pooled
from bench.peers import FORKS
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "an unchanged C program per connection, user nobody, 32 clients at a time"
COLUMNS = (*RATE_COLUMNS, pooled.SHARE)
BASELINE = "reference"
TARGETS = (Target("fastinetd, zygote", "rate", at_least=2.5, over="reference"),)
SPAWNS = {"exec": {}, "zygote": pooled.ZYGOTE, "prefork": pooled.PREFORK}


def cases(bench: Bench) -> dict[str, Case]:
    def pool(attributes: dict[str, str]) -> Case:
        return lambda: pooled.measure_rate(bench, "hello", attributes)

    def peer(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1))

    if "fastinetd" not in bench.peers:
        return {}
    own = {f"fastinetd, {spawn}": pool(attributes) for spawn, attributes in SPAWNS.items()}
    others = {
        name if peer_.switches_user or not bench.user.switched else f"{name} (no user switch)": peer(name)
        for name, peer_ in bench.peers.items()
        if name != "fastinetd"
    }
    return own | {FORKS.name: peer(FORKS.name)} | others
