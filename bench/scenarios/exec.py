"""One small program per connection, as another user: the work a super-server is for."""

from __future__ import annotations

from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "a program per connection, user nobody, 32 clients at a time"
COLUMNS = RATE_COLUMNS
BASELINE = "reference"
TARGETS = (
    Target("fastinetd", "rate", at_least=0.90, over="reference"),
    Target("fastinetd", "rate", at_least=1.15, over="xinetd"),
)


def cases(bench: Bench) -> dict[str, Case]:
    def case(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1))

    return {
        name if peer.switches_user or not bench.user.switched else f"{name} (no user switch)": case(name)
        for name, peer in bench.peers.items()
    }
