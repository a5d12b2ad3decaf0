"""python -m bench compare A B: what is slower or faster in B than in A, beyond the noise.

A and B are files of records, directories of them, or the beginning of their names (2026-11-25). Exit status: 1
when fastinetd got slower somewhere, 2 when nothing could be compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import ranks, view
from bench.columns import align_rows
from bench.records import RESULTS, Record, RecordError, latest_records, time_of

CHANCE = 0.05  # of the rank test
EFFECT = 0.05  # of the medians: less than this is not worth a line, however sure it is
FACTS = ("cpu", "cores", "kernel", "libc", "python", "gcc", "autogroup")
SAME, SLOWER, FASTER, UNSURE = "same", "slower", "faster", "too few rounds"


@dataclass(frozen=True)
class Change:
    """One metric of one case. *change* is that of the medians, -0.1 for a tenth less; *over* the C program
    whose value in the same round each sample was divided by, or None."""

    scenario: str
    case: str
    metric: str
    before: float
    after: float
    change: float
    p: float
    word: str
    over: str | None

    @property
    def counts(self) -> bool:
        """Whether the change is fastinetd's doing: neither another server's nor the machine's."""
        return not view.is_standard(self.case) and not view.is_other(self.case)


def judge_change(
    before: Sequence[float], after: Sequence[float], more_is_better: bool, effect: float
) -> tuple[float, float, str]:
    """The change of the medians, the p of the rank test, and the word for both."""
    old, new = statistics.median(before), statistics.median(after)
    change, p = (new / old - 1 if old else 0.0), ranks.p_value(before, after)
    if ranks.best_p(len(before), len(after)) > CHANCE:
        return change, p, UNSURE
    if p > CHANCE or abs(change) < effect:
        return change, p, SAME
    return change, p, FASTER if (change > 0) == more_is_better else SLOWER


def find_changes(one: Record, two: Record, effect: float = EFFECT) -> Iterator[Change]:
    """Every case and metric that both records of a scenario have."""
    known = {column.key for column in view.metrics_of(two)}
    for column in view.metrics_of(one):
        key = column.key
        for case in one["cases"]:
            if case not in two["cases"] or key not in known:
                continue
            over = view.standard_of(one, case) if view.standard_of(one, case) == view.standard_of(two, case) else None
            over = None if view.is_standard(case) else over
            old, new = (
                view.ratios_of(record, case, over, key) if over else view.values_of(record, case, key)
                for record in (one, two)
            )
            if not old or not new:
                continue
            before, after = (statistics.median(view.values_of(r, case, key)) * column.scale for r in (one, two))
            change, p, word = judge_change(old, new, key in view.MORE_IS_BETTER, effect)
            yield Change(one["scenario"], case, column.heading, before, after, change, p, word, over)


def machine_differences(one: Record, two: Record) -> list[str]:
    """The facts in which the machines differ."""
    a, b = one["facts"], two["facts"]
    return [f"{fact}: {a.get(fact)} -> {b.get(fact)}" for fact in FACTS if a.get(fact) != b.get(fact)]


def table_lines(found: Sequence[Change]) -> list[str]:
    rows = [["", "A", "B", "change", "p", ""]]
    for c in found:
        against = f" / {c.over}" if c.over else ""
        digits = next(digits for digits, least in ((0, 100), (1, 10), (3, 0)) if max(c.before, c.after) >= least)
        numbers = [f"{c.before:,.{digits}f}", f"{c.after:,.{digits}f}", f"{c.change:+.1%}", f"{c.p:.3f}"]
        rows.append([f"{c.case}: {c.metric}{against}", *numbers, c.word if c.counts else f"({c.word})"])
    return align_rows(rows)


def compare_records(one: Mapping[str, Record], two: Mapping[str, Record], effect: float) -> list[Change]:
    """Print a table for each scenario that both have; returns all changes."""
    every = []
    for name in (name for name in one if name in two):
        a, b = one[name], two[name]
        print(f"{name}: {time_of(a)} -> {time_of(b)}")
        for line in machine_differences(a, b):
            print(f"  another machine? {line}")
        found = list(find_changes(a, b, effect))
        print("\n".join(table_lines(found)), end="\n\n")
        every += found
    for label, names in (("A", one.keys() - two.keys()), ("B", two.keys() - one.keys())):
        if names:
            print(f"only in {label}: {', '.join(sorted(names))}")
    return every


def main(argv: Sequence[str], results: Path = RESULTS) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("a", metavar="A", help="the records before")
    parser.add_argument("b", metavar="B", help="the records after")
    parser.add_argument("--effect", type=float, default=EFFECT, help="smallest change that counts (0.05)")
    options = parser.parse_args(argv)
    try:
        every = compare_records(latest_records(options.a, results), latest_records(options.b, results), options.effect)
    except RecordError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if not every:
        print("bench: the two have no scenario and case in common", file=sys.stderr)
        return 2
    for word in (SLOWER, FASTER):
        for c in (c for c in every if c.word == word and c.counts):
            print(f"{word}: {c.scenario}: {c.case}: {c.metric} {c.change:+.1%}")
    if unsure := sum(c.word == UNSURE for c in every):
        print(f"{unsure} of {len(every)} cannot be told: it takes four rounds on both sides")
    return 1 if any(c.word == SLOWER and c.counts for c in every) else 0
