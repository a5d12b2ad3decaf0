"""Golden pairs: tests/golden/NAME.conf (or .toml) is read, and what comes out is NAME.json.

After a wanted change write them anew with `FASTINETD_GOLDEN=write pytest tests/unit/config/test_golden.py`, and read
the difference before committing it. A name that begins with `inetd-DIALECT` is an inetd.conf, others are xinetd.conf.
"""

import dataclasses
import json
import os
from enum import Enum
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.config.model import Config, Place, Service
from fastinetd.config.settings import SETTINGS

FOLDER = Path(__file__).parents[2] / "golden"
PAIRS = sorted([*FOLDER.glob("*.conf"), *FOLDER.glob("*.toml")])
assert len(PAIRS) == 96, "a new pair, or are they not where they are looked for?"
EMPTY = {field.name: field.default for field in dataclasses.fields(Service)}


def plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def service(record: Service) -> dict[str, object]:
    """The fields that are not as in an empty record."""
    shown = {
        name: plain(getattr(record, name))
        for name, default in EMPTY.items()
        if name not in ("place", "places", "spots", "rlimits", "scrubbed") and getattr(record, name) != default
    }
    if record.rlimits:
        shown["rlimits"] = dict(record.rlimits)
    shown["places"] = {name: spot(place) for name, place in sorted(record.places.items())}
    if record.spots:
        shown["spots"] = {name: [spot(place) for place in places] for name, places in sorted(record.spots.items())}
    return {**shown, "place": spot(record.place)}


def spot(place: Place) -> str:
    return f"{place.line}:{place.column}"


def outcome(path: Path) -> dict[str, object]:
    report = Report()
    kind, dialect = "toml" if path.suffix == ".toml" else "xinetd", "debian"
    if path.name.startswith("inetd-"):
        kind, dialect = "inetd", path.stem.split("-")[1]
    config: Config = load_config(str(path), kind=kind, dialect=dialect, report=report)
    return {
        "fatal": config.fatal,
        "messages": [f"{spot(d.place)}: {d.severity.value}: {d.text} [{d.code}]" for d in report],
        "services": [service(record) for record in config.services],
        "broken": [service(record) for record in config.broken],
    }


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.name)
def test_pair(path: Path) -> None:
    golden = path.with_name(path.name + ".json") if path.suffix == ".toml" else path.with_suffix(".json")
    found = outcome(path)
    if os.environ.get("FASTINETD_GOLDEN") == "write":
        golden.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(golden.read_text())


def test_every_attribute_has_a_pair() -> None:
    assert {path.stem for path in PAIRS} >= SETTINGS.keys()


def test_every_pair_has_its_source() -> None:
    sources = {path.name if path.suffix == ".toml" else path.stem for path in PAIRS}
    assert {path.stem for path in FOLDER.glob("*.json")} == sources
