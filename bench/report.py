"""The table people read and the record that is kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bench.columns import align_rows
from bench.runner import Result


def result_table(result: Result) -> str:
    """Medians per case, the first column's ratio to the baseline, and the verdicts."""
    scenario = result.scenario
    columns, base = scenario.COLUMNS, scenario.BASELINE
    rows = [["", columns[0].heading, f"x {base}", *(column.heading for column in columns[1:])]]
    for case in result.samples:
        row = [case]
        for column in columns:
            value = result.median(case, column.key)
            row.append("-" if value is None else f"{value * column.scale:,.{column.digits}f}")
        ratio = result.ratio(case, result.base(case), columns[0].key)
        rows.append([*row[:2], "-" if ratio is None else f"{ratio:.2f}", *row[2:]])
    lines = [f"{result.name}: {scenario.SUMMARY} (medians of {result.rounds})", *align_rows(rows)]
    for verdict in result.verdicts():
        shown = "" if verdict.value is None else f": {verdict.value:.3g}"
        lines.append(f"  {verdict.word}  {verdict.target}{shown}")
    lines.extend(f"  NOTE  {note}" for note in result.notes)
    lines.extend(f"  ERROR  {problem}" for problem in result.problems)
    return "\n".join(lines)


def record_of(result: Result, facts: dict[str, object], seconds: float, time: str) -> dict[str, Any]:
    """Everything measured, as plain data. *seconds* is the length of one measurement, *time* when the run
    began (ISO 8601, UTC)."""
    scenario = result.scenario
    key = scenario.COLUMNS[0].key
    cases = {}
    for case, samples in result.samples.items():
        metrics = sorted({metric for sample in samples if sample for metric in sample})
        cases[case] = {
            "median": {metric: result.median(case, metric) for metric in metrics},
            f"{key}_over_{result.base(case)}": result.ratio(case, result.base(case), key),
            "samples": samples,
        }
    return {
        "scenario": result.name,
        "summary": scenario.SUMMARY,
        "date": time[:10],
        "time": time,
        "seconds": seconds,
        "rounds": result.rounds,
        "facts": facts,
        "notes": result.notes,
        "columns": [asdict(column) for column in scenario.COLUMNS],
        "cases": cases,
        "targets": [{"target": str(v.target), "value": v.value, "verdict": v.word} for v in result.verdicts()],
        "problems": result.problems,
    }
