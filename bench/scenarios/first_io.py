"""Scripts, unchanged, forked from an interpreter that has started, loaded its modules and read the script, and is
held at its first use of the connection."""

from __future__ import annotations

from bench import pooled
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "a script per connection, by exec and held at its first use of it"
COLUMNS = (*RATE_COLUMNS, pooled.SHARE)
BASELINE = "exec"
SCRIPTS = {"bash": "hello.sh", "perl": "hello.pl", "python": "hello.py", "python os._exit": "hello_exit.py"}
GAINS = {"bash": 3.0, "perl": 10.0, "python": 10.0, "python os._exit": 10.0}
TARGETS = tuple(
    Target(f"fastinetd first_io, {language}", "rate", at_least=gain, over=f"fastinetd exec, {language}")
    for language, gain in GAINS.items()
)


def base(case: str) -> str:
    """The case that *case* is compared with: that of its own language."""
    return f"fastinetd exec, {case.rpartition(', ')[2]}"


def cases(bench: Bench) -> dict[str, Case]:
    def pool(script: str, attributes: dict[str, str]) -> Case:
        return lambda: pooled.measure_rate(bench, script, attributes)

    def peer(name: str, script: str) -> Case:
        return lambda: bench.rate(name, bench.services(1, script))

    if "fastinetd" not in bench.peers:
        return {}
    found: dict[str, Case] = {}
    for language, script in SCRIPTS.items():
        if script not in bench.programs:
            continue  # its interpreter is not installed
        found[f"fastinetd exec, {language}"] = pool(script, {})
        found[f"fastinetd first_io, {language}"] = pool(script, pooled.FIRST_IO)
        found[f"reference, {language}"] = peer("reference", script)
    return found
