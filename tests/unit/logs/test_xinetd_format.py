"""The text of records: exactly what fail2ban, logwatch, OSSEC and people's own scripts read."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.config.model import LogType
from fastinetd.core.layout import REFUSALS, Field, RecordKind, Verdict
from fastinetd.core.records import JournalRecord
from fastinetd.logs.format import LoggedService
from fastinetd.logs.service_log import message_of
from fastinetd.logs.xinetd_format import record_text

MANUAL = Path(__file__).parents[3] / "docs" / "logs.md"

PID, HOST = Field.SHOW_PID, Field.SHOW_HOST
EXIT, DURATION, ATTEMPT = Field.SHOW_EXIT, Field.SHOW_DURATION, Field.SHOW_ATTEMPT
ENTRY = LoggedService("web", LogType(), "/usr/sbin/webd")


def record(kind: RecordKind, fields: int = 0, **values: Any) -> JournalRecord:
    base = JournalRecord(1_790_000_000.25, 1, int(kind), 0, 4711, 0, False, 0, "192.0.2.7", 40000, int(fields))
    numbers: dict[str, Any] = {name: int(v) if isinstance(v, Verdict) else v for name, v in values.items()}
    return base._replace(**numbers)


@pytest.mark.parametrize(
    "fields, text",
    [
        (PID | HOST, "START: web pid=4711 from=192.0.2.7"),
        (PID, "START: web pid=4711"),
        (HOST, "START: web from=192.0.2.7"),
        (EXIT, "START: web"),
        (Field.SHOW_USERID, "START: web"),
        (0, None),
    ],
)
def test_start(fields: int, text: str | None) -> None:
    assert record_text(record(RecordKind.START, fields), "web") == text


@pytest.mark.parametrize("address", ["", "unix"])
def test_an_unknown_address(address: str) -> None:
    started = record(RecordKind.START, PID | HOST, address=address)
    assert record_text(started, "web") == "START: web pid=4711 from=<no address>"


@pytest.mark.parametrize(
    "fields, values, text",
    [
        (EXIT | PID | DURATION, {"value": 3, "seconds": 12}, "EXIT: web status=3 pid=4711 duration=12(sec)"),
        (EXIT | PID | DURATION, {"value": 9, "signalled": True}, "EXIT: web signal=9 pid=4711 duration=0(sec)"),
        (EXIT, {}, "EXIT: web status=0"),
        (DURATION, {"seconds": 5}, "EXIT: web duration=5(sec)"),
        (PID | EXIT | HOST, {}, "EXIT: web status=0 pid=4711"),
        (PID | HOST, {}, None),
        (0, {}, None),
    ],
)
def test_exit(fields: int, values: dict[str, object], text: str | None) -> None:
    assert record_text(record(RecordKind.EXIT, fields, **values), "web") == text


@pytest.mark.parametrize(
    "verdict, reason",
    [
        (Verdict.ADDRESS, "address"),
        (Verdict.NAME, "address"),
        (Verdict.DOORMAN, "address"),
        (Verdict.TIME, "time"),
        (Verdict.LOAD, "load"),
        (Verdict.RATE, "connections per second"),
        (Verdict.INSTANCES, "service_limit"),
        (Verdict.DISABLED, "service_limit"),
        (Verdict.PER_SOURCE, "per_source_limit"),
        (Verdict.SOURCES_FULL, "per_source_limit"),
        (Verdict.PROCESS_LIMIT, "process_limit"),
        (Verdict.SLOTS_FULL, "process_limit"),
        (Verdict.LOOP, "loop"),
    ],
)
def test_refusals(verdict: Verdict, reason: str) -> None:
    assert record_text(record(RecordKind.FAIL, HOST, reason=verdict), "web") == f"FAIL: web {reason} from=192.0.2.7"
    assert record_text(record(RecordKind.FAIL, ATTEMPT, reason=verdict), "web") == f"FAIL: web {reason}"
    assert record_text(record(RecordKind.FAIL, 0, reason=verdict), "web") is None


@pytest.mark.parametrize(
    "number, reason", [(errno.ENOENT, "exec"), (errno.EACCES, "exec"), (errno.EAGAIN, "fork"), (errno.ENOMEM, "fork")]
)
def test_failed_starts_are_refusals(number: int, reason: str) -> None:
    failed = record(RecordKind.SPAWN_FAILED, HOST, value=number)
    assert record_text(failed, "web") == f"FAIL: web {reason} from=192.0.2.7"
    assert record_text(failed._replace(fields=0), "web") is None


@pytest.mark.parametrize(
    "kind, value, text",
    [
        (
            RecordKind.SPAWN_FAILED,
            2,
            "service web: execv( /usr/sbin/webd ) failed: No such file or directory (errno = 2); `fastinetd --check` "
            "says whether the program, its interpreter or a folder is meant, and for whom",
        ),
        (
            RecordKind.SPAWN_FAILED,
            11,
            "service web: fork failed: Resource temporarily unavailable (errno = 11); allow more processes, and "
            "signals that may be pending (ulimit -u and -i, TasksMax)",
        ),
        (RecordKind.ACCEPT_FAILED, 24, "service web: accept failed: Too many open files (errno = 24)"),
        (
            RecordKind.DEACTIVATED,
            30,
            "Deactivating service web due to excessive incoming connections.  Restarting in 30 seconds.",
        ),
        (RecordKind.START, 0, None),
        (RecordKind.EXIT, 0, None),
        (RecordKind.FAIL, 0, None),
    ],
)
def test_what_the_daemon_says_itself(kind: RecordKind, value: int, text: str | None) -> None:
    assert message_of(record(kind, HOST, value=value), ENTRY) == text


def test_only_starts_exits_and_refusals_are_records() -> None:
    for kind in (RecordKind.ACCEPT_FAILED, RecordKind.DEACTIVATED):
        assert record_text(record(kind, HOST | PID), "web") is None


SHAPE = re.compile(
    r"START: web( pid=\d+)?( from=(\S+|<no address>))?"
    r"|EXIT: web( status=\d+| signal=\d+)?( pid=\d+)?( duration=\d+\(sec\))?"
    r"|FAIL: web (fork|exec|time|load|address|service_limit|per_source_limit|process_limit"
    r"|connections per second|loop|refused)"
    r"( from=(\S+|<no address>))?"
)


@given(
    st.builds(
        JournalRecord,
        when=st.floats(0, 4e9),
        row=st.integers(0, 9),
        kind=st.integers(0, 9),
        reason=st.integers(0, 15),
        pid=st.integers(0, 1 << 22),
        value=st.integers(0, 255),
        signalled=st.booleans(),
        seconds=st.integers(0, 1 << 31),
        address=st.sampled_from(["", "unix", "192.0.2.7", "2001:db8::1"]),
        port=st.integers(0, 65535),
        fields=st.integers(0, 127),
    )
)
def test_every_record_has_a_known_shape_or_none(some: JournalRecord) -> None:
    text = record_text(some, "web")
    assert text is None or SHAPE.fullmatch(text), text


def test_the_filters_of_log_readers() -> None:
    started = record_text(record(RecordKind.START, PID | HOST), "web")
    refused = record_text(record(RecordKind.FAIL, HOST, reason=Verdict.ADDRESS), "web")
    assert started is not None and refused is not None
    line = "xinetd[1]: "
    assert re.fullmatch(r"xinetd\[\d+\]: START: (\S+) pid=\d+ from=(.+)", line + started)  # logwatch, secure
    assert re.fullmatch(r"xinetd\[\d+\]: FAIL: (.+) (address|libwrap) from=([\d.]+)", line + refused)
    assert re.search(r"FAIL: \S+ address from=[\d.]+$", line + refused)  # fail2ban, xinetd-fail


def test_a_refusal_that_does_not_exist_is_one_nevertheless() -> None:
    """Processes without privileges write records, too."""
    assert record_text(record(RecordKind.FAIL, HOST, reason=99), "web") == "FAIL: web refused from=192.0.2.7"


def test_every_refusal_has_a_word_that_the_manual_explains() -> None:
    assert set(REFUSALS) == set(Verdict) - {Verdict.ADMIT, Verdict.ASK}
    _, table = MANUAL.read_text().split("| reason | meaning |\n|---|---|\n")
    words = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|([^|]+)\|", table.partition("\n\n")[0], re.MULTILINE)))
    assert sorted(words) == sorted({*REFUSALS.values(), "exec", "fork"})
