"""Runs a scenario's cases interleaved, and draws the conclusions."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.load import HoldError, Sample
from bench.scenario import Bench, Scenario, Target
from bench.servers import ROOT, ServerError


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured; *value* is None when a side of it was not."""

    target: Target
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        return "PASS" if self.target.met(self.value) else "MISS"


@dataclass
class Result:
    """All samples of a scenario: by case, one per round, None where a measurement failed."""

    name: str
    scenario: Scenario
    rounds: int
    samples: dict[str, list[Sample | None]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def base(self, case: str) -> str:
        """The case that this one's ratio is taken against."""
        chosen: Callable[[str], str] | None = getattr(self.scenario, "base", None)
        return chosen(case) if chosen else self.scenario.BASELINE

    def median(self, case: str, metric: str) -> float | None:
        values = [s[metric] for s in self.samples.get(case, ()) if s and metric in s]
        return statistics.median(values) if values else None

    def ratio(self, case: str, over: str, metric: str) -> float | None:
        """The median of the rounds' ratios."""
        pairs = zip(self.samples.get(case, ()), self.samples.get(over, ()))
        ratios = [a[metric] / b[metric] for a, b in pairs if a and b and b.get(metric)]
        return statistics.median(ratios) if ratios else None

    def verdicts(self) -> list[Verdict]:
        def value(t: Target) -> float | None:
            return self.ratio(t.case, t.over, t.metric) if t.over else self.median(t.case, t.metric)

        return [Verdict(target, value(target)) for target in self.scenario.TARGETS]


def run_scenario(name: str, scenario: Scenario, bench: Bench, rounds: int, say: Callable[[str], None]) -> Result:
    """Every case once per round, each round beginning one case later: slow drifts of the machine
    (heat, neighbours) then fall on all of them alike."""
    rounds = min(rounds, getattr(scenario, "MAX_ROUNDS", rounds))
    cases = list(scenario.cases(bench).items())
    result = Result(name, scenario, rounds, {case: [None] * rounds for case, _ in cases})
    result.notes += getattr(scenario, "notes", lambda bench: [])(bench)
    for number in range(rounds):
        shift = number % len(cases)
        for case, measure in cases[shift:] + cases[:shift]:
            try:
                sample = measure()
            except (ServerError, HoldError) as error:
                text = str(error)
                for place in (bench.directory, ROOT):  # records name none
                    text = text.replace(f"{place}/", "")
                result.problems.append(f"round {number + 1}, {case}: {text}")
                say(f"{name} {number + 1}/{rounds} {case}: {text}")
                continue
            result.samples[case][number] = sample
            if sample.get("errors"):
                kinds = {key: int(value) for key, value in sample.items() if key.startswith("errors_")}
                result.problems.append(f"round {number + 1}, {case}: wrong or lost connections: {kinds}")
            first = scenario.COLUMNS[0]
            value = f"{sample.get(first.key, 0) * first.scale:.{first.digits}f} {first.heading}"
            say(f"{name} {number + 1}/{rounds} {case}: {value}")
    return result
