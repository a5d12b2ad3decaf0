"""python -m bench history [SCENARIO...]: the medians of all records over time."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import view
from bench.columns import align_rows
from bench.records import RESULTS, Record, RecordError, records_by_scenario, time_of
from bench.scenario import Column


def history_lines(scenario: str, records: Sequence[Record]) -> list[str]:
    """One block: a column per run, a line per case and metric, then the targets."""
    rows = [["", *(time_of(record)[:16].replace("T", " ") for record in records)]]
    rows.append(["version", *(str(record["facts"].get("versions", {}).get("fastinetd", "-")) for record in records)])
    metrics = {column.key: column for record in records for column in view.metrics_of(record)}
    for column in metrics.values():
        cases = dict.fromkeys(case for record in records for case in record["cases"])
        named = f" {column.heading}" if len(metrics) > 1 else ""
        rows += [[f"{case}{named}", *(history_cell(record, case, column) for record in records)] for case in cases]
    outcomes = dict.fromkeys(entry["target"] for record in records for entry in record["targets"])
    rows += [[target, *(target_outcome(record, target) for record in records)] for target in outcomes]
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    unit = f" ({next(iter(metrics.values())).heading})" if len(metrics) == 1 else ""
    return [f"{scenario}{unit}", *align_rows(rows)]


def history_cell(record: Record, case: str, column: Column) -> str:
    values = view.values_of(record, case, column.key)
    return f"{statistics.median(values) * column.scale:,.{column.digits}f}" if values else "-"


def target_outcome(record: Record, target: str) -> str:
    """The value, with a mark when it misses the target."""
    for entry in record["targets"]:
        if entry["target"] == target and entry["value"] is not None:
            return f"{entry['value']:.3g}{'' if entry['verdict'] == 'PASS' else ' !'}"
    return "-"


def main(argv: Sequence[str], results: Path = RESULTS) -> int:
    about = "The medians of all records over time; a target that was missed has a mark: !"
    parser = argparse.ArgumentParser(prog="python -m bench history", description=about)
    parser.add_argument("scenario", nargs="*", help="only these")
    parser.add_argument("--last", type=int, default=8, metavar="N", help="the latest N runs of each (8)")
    options = parser.parse_args(argv)
    try:
        found = records_by_scenario(sorted(results.glob("*.json")))
    except RecordError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if unknown := [name for name in options.scenario if name not in found]:
        print(f"bench: no record of {', '.join(unknown)}; there are: {', '.join(found) or 'none'}", file=sys.stderr)
        return 2
    for name in options.scenario or found:
        print("\n".join(history_lines(name, found[name][-max(options.last, 1) :])), end="\n\n")
    return 0
