"""The records: one JSON file per scenario and run in results/, named DATE-TIME-SCENARIO.json (UTC, the run's
beginning; the oldest ones have no time). Nothing here replaces one."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
Record = dict[str, Any]


class RecordError(Exception):
    """A record is not there or cannot be read; the text names the file and what can be done."""


def now() -> str:
    """The time as records have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_of(record: Record) -> str:
    """The time of a record's run, or its date where that is all there is."""
    return str(record.get("time") or record["date"])


def write_records(path: Path, data: object) -> None:
    """Write *data* as JSON, over what is there."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")


def file_record(record: Record, results: Path = RESULTS) -> Path:
    """File a record, under a name that nothing else has: two runs may begin in the same second."""
    stem = f"{re.sub('[:Z]', '', time_of(record)).replace('T', '-')}-{record['scenario']}"
    results.mkdir(exist_ok=True)
    number = 1
    while True:
        path = results / (f"{stem}.json" if number == 1 else f"{stem}.{number}.json")
        try:
            with path.open("x") as file:
                file.write(json.dumps(record, indent=1) + "\n")
            return path
        except FileExistsError:
            number += 1


def load_records(path: Path) -> list[Record]:
    """The records of a file: one, or a list as --json writes it."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: {error}") from error
    records: list[Record] = data if isinstance(data, list) else [data]
    if not all(isinstance(record, dict) and {"scenario", "date", "cases"} <= record.keys() for record in records):
        raise RecordError(f"{path}: not a record of this benchmark")
    return records


def select_files(name: str, results: Path = RESULTS) -> list[Path]:
    """The files that *name* means: a file, all of a directory, or those filed under names that begin so
    (2026-11-25, 2026-11-25-1430)."""
    path = Path(name)
    if path.is_file():
        return [path]
    found = sorted((path if path.is_dir() else results).glob("*.json"))
    if not path.is_dir():
        found = [path for path in found if path.name.startswith(name)]
    if not found:
        raise RecordError(f"{name}: neither a file nor a directory of records, and no record's name begins so")
    return found


def records_by_scenario(paths: Sequence[Path]) -> dict[str, list[Record]]:
    """The records of these files by scenario, from the oldest to the latest."""
    found: dict[str, list[Record]] = {}
    for record in sorted((record for path in paths for record in load_records(path)), key=time_of):
        found.setdefault(record["scenario"], []).append(record)
    return found


def latest_records(name: str, results: Path = RESULTS) -> dict[str, Record]:
    """The latest record of each scenario among the files that *name* means (`select`)."""
    return {scenario: records[-1] for scenario, records in records_by_scenario(select_files(name, results)).items()}
