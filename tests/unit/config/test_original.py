"""What xinetd makes of lines that mean something else to it; tests/compare/test_spellings.py asks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.config.original import oddities_of

LINES = "type = UNLISTED\nport = 7000\nsocket_type = stream\nwait = no\nuser = nobody\n{1}server = /x\n"
SERVICE = f"service {{0}}\n{{{{\n{LINES}}}}}\n"


def notes(folder: Path, text: str, name: str = "x.conf", *, differences: bool = True) -> list[tuple[int, int]]:
    path = folder / name
    path.write_text(text, newline="")
    report = Report(differences=differences)
    load_config(str(path), report=report)
    return [(each.place.line, each.place.column) for each in report if each.code == "in-xinetd"]


@pytest.mark.parametrize(
    ("line", "odd"),
    [
        ("only_from = 10.0.0.1 ::1/128 ::1/64", [1]), ("no_access = 10.0.0.0/255.0.0.0 0.0.0.0/0.0.0.0", [0]),
        ("access_times = 8:00-9:00 9:00-8:00 8:00-8:00 0:00-24:00 0:00-23:59", [1, 2, 3]),
        ("bind = 127.0.0.1", []), ("bind = 127.0.0.1 127.0.0.2 127.0.0.3", [1]), ("interface = 127.0.0.1 ::1", [1]),
        ("v6only = NO", [0]), ("v6only = yes", []), ("log_type = syslog CRON info", [1]), ("log_type = FILE cron", []),
        ("log_type = SYSLOG daemon", []), ("nice = 5", []),
    ],
)  # fmt: skip
def test_words(line: str, odd: list[int]) -> None:
    name, _, *words = line.split()
    assert [index for index, _ in oddities_of(name, words, defaults=False)] == odd


def test_in_defaults_v6only_means_nothing_to_xinetd() -> None:
    assert list(oddities_of("v6only", ["no"], defaults=True)) == []


def test_the_first_line_without_a_blank_of_each_service(tmp_path: Path) -> None:
    text = SERVICE.format("a", "nice=5\numask=022\n") + SERVICE.format("b", "only_from+= 10.0.0.1\n")
    assert notes(tmp_path, text) == [(8, 5), (19, 10)]


def test_one_note_on_carriage_returns(tmp_path: Path) -> None:
    assert notes(tmp_path, "# x\n" + SERVICE.format("a", "").replace("\n", "\r\n")) == [(2, 10)]


def test_services_above_the_access_lists_of_defaults(tmp_path: Path) -> None:
    defaults = "defaults\n{\nno_access = 10.0.0.1\n}\n"
    above = SERVICE.format("a", "")
    assert notes(tmp_path, above + defaults) == [(10, 1)]
    assert notes(tmp_path, defaults + above) == []
    assert notes(tmp_path, above + defaults.replace("no_access = 10.0.0.1", "instances = 3")) == []


def test_only_where_it_is_wanted(tmp_path: Path) -> None:
    """Not at each start and reload, and not of a file that xinetd does not read."""
    assert notes(tmp_path, SERVICE.format("a", "nice=5\nv6only = no\n"), differences=False) == []
    assert notes(tmp_path, '[service.a]\naccess_times = "22:00-6:00"\n', "x.toml") == []
