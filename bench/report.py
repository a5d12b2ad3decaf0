"""The table people read and the JSON that is kept."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from bench.runner import Result

RESULTS = Path(__file__).resolve().parent / "results"


def table(result: Result) -> str:
    """Medians per case, the first column's ratio to the baseline, and the verdicts."""
    scenario = result.scenario
    columns, base = scenario.COLUMNS, scenario.BASELINE
    rows = [["", columns[0].heading, f"x {base}", *(column.heading for column in columns[1:])]]
    for case in result.samples:
        row = [case]
        for column in columns:
            value = result.median(case, column.key)
            row.append("-" if value is None else f"{value * column.scale:,.{column.digits}f}")
        ratio = result.ratio(case, base, columns[0].key)
        rows.append([*row[:2], "-" if ratio is None else f"{ratio:.2f}", *row[2:]])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{result.name}: {scenario.SUMMARY} (medians of {result.rounds})"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells))
    for verdict in result.verdicts():
        shown = "" if verdict.value is None else f": {verdict.value:.3g}"
        lines.append(f"  {verdict.word}  {verdict.target}{shown}")
    lines.extend(f"  ERROR  {problem}" for problem in result.problems)
    return "\n".join(lines)


def record(result: Result, facts: dict[str, object], seconds: float) -> dict[str, Any]:
    """Everything measured, as plain data. *seconds* is the length of one measurement."""
    scenario = result.scenario
    key = scenario.COLUMNS[0].key
    cases = {}
    for case, samples in result.samples.items():
        metrics = sorted({metric for sample in samples if sample for metric in sample})
        cases[case] = {
            "median": {metric: result.median(case, metric) for metric in metrics},
            f"{key}_over_{scenario.BASELINE}": result.ratio(case, scenario.BASELINE, key),
            "samples": samples,
        }
    return {
        "scenario": result.name,
        "summary": scenario.SUMMARY,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": seconds,
        "rounds": result.rounds,
        "facts": facts,
        "cases": cases,
        "targets": [{"target": str(v.target), "value": v.value, "verdict": v.word} for v in result.verdicts()],
        "problems": result.problems,
    }


def write(path: Path, data: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")


def keep(data: dict[str, Any]) -> Path:
    """File a record as results/DATE-SCENARIO.json; a later run of the same day replaces it."""
    path = RESULTS / f"{data['date']}-{data['scenario']}.json"
    write(path, data)
    return path
