"""What a record shows: its metrics with their units, its cases, ratios and targets. Old records say less about
themselves; what is missing is taken from the scenario of that name."""

from __future__ import annotations

from bench.peers import BARE, PEERS
from bench.records import Record
from bench.scenario import Column, Target
from bench.scenarios import SCENARIOS

MORE_IS_BETTER = {"rate", "mb_s"}
"""Metrics of which more is better; of every other one that leads a scenario or has a target, less is."""

STANDARDS = ("reference", *(peer.name for peer in BARE))
"""Cases with these names, or that begin with one and a comma, are C programs that do not change."""

OTHERS = {peer.name for peer in PEERS} - {"fastinetd", *STANDARDS}


def key_and_base(record: Record, case: str) -> tuple[str, str]:
    """The leading metric, and the case that the ratio is taken against."""
    name = next(name for name in record["cases"][case] if "_over_" in name)
    key, _, base = name.partition("_over_")
    return key, base


def targets_of(record: Record) -> list[Target]:
    return [Target.parse(entry["target"]) for entry in record["targets"]]


def metrics_of(record: Record) -> list[Column]:
    """What the record is about: its leading metric, then those that targets speak of."""
    scenario = SCENARIOS.get(record["scenario"])
    columns = [Column(**column) for column in record.get("columns", ())] or list(scenario.COLUMNS if scenario else ())
    by_key = {column.key: column for column in reversed(columns)}  # headings may repeat, keys do not
    leading = [key_and_base(record, case)[0] for case in list(record["cases"])[:1]]
    keys = dict.fromkeys(leading + [target.metric for target in targets_of(record)])
    return [by_key.get(key, Column(key, key, 2)) for key in keys]


def by_round(record: Record, case: str, key: str) -> list[float | None]:
    """The samples of one case, None for a round that failed."""
    entry = record["cases"].get(case, {"samples": []})
    return [sample.get(key) if sample else None for sample in entry["samples"]]


def values_of(record: Record, case: str, key: str) -> list[float]:
    """The samples of one case, without the rounds that failed."""
    return [value for value in by_round(record, case, key) if value is not None]


def ratios_of(record: Record, case: str, over: str, key: str) -> list[float]:
    """The ratios of one case to another, round by round."""
    pairs = zip(by_round(record, case, key), by_round(record, over, key))
    return [a / b for a, b in pairs if a is not None and b]


def standard_of(record: Record, case: str) -> str | None:
    """The C program beside *case* in the same rounds, which tells how fast the machine was."""
    _, comma, kind = case.partition(",")
    base = key_and_base(record, case)[1]
    choices = [f"reference{comma}{kind}", base if is_standard(base) else "", *STANDARDS]
    return next((name for name in choices if name != case and name in record["cases"]), None)


def is_standard(case: str) -> bool:
    return case.partition(",")[0] in STANDARDS


def is_other(case: str) -> bool:
    """Whether a case is another super-server's. What is left is fastinetd's, which not every case names."""
    return case.partition(",")[0].partition(" (")[0] in OTHERS
