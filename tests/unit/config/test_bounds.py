"""Rubbish as configuration costs a bounded time, memory and report, however much of it there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import MOST_BYTES, load_config

SECONDS = 20.0
"""Of a processor, with room for a machine that is busy otherwise; most take three."""

BYTES = 500 << 20
SAID = 1 << 20
SERVICE = "type = UNLISTED\nport = 1\nsocket_type = stream\nwait = no\nuser = root\nserver = /bin/true\n"


def repeated(line: str) -> str:
    """As much as is read."""
    size = len(line.format(n=1_000_000))
    return "".join(line.format(n=number) for number in range(MOST_BYTES // size))


RUBBISH = {
    "keys.toml": lambda: "[service.a]\n" + repeated("k{n} = 1\n"),
    "services.toml": lambda: repeated("[service.s{n}]\n"),
    "dotted.toml": lambda: "a." * (MOST_BYTES // 2 - 10) + "b = 1\n",
    "quoted.toml": lambda: '"a" . ' * (MOST_BYTES // 6 - 10) + "b = 1\n",
    "word.toml": lambda: "a" * (MOST_BYTES - 10),
    "attributes.conf": lambda: "service a\n{\n" + repeated("n{n} = v\n") + "}\n",
    "addresses.conf": lambda: "service a\n{\n" + SERVICE + repeated("no_access+={n}\n")[:-200] + "\n}\n",
    "taken.conf": lambda: "service a\n{\n" + SERVICE + repeated("passenv+=A{n}\npassenv-=B{n}\n")[:-200] + "\n}\n",
    "line.conf": lambda: "service a\n{\n" + SERVICE + "server_args =" + " x" * (MOST_BYTES // 2 - 100) + "\n}\n",
    "line.inetd.conf": lambda: "x " * (MOST_BYTES // 2 - 1),
    "services.inetd.conf": lambda: repeated("s{n} stream tcp nowait root /x\n"),
    "same.inetd.conf": lambda: repeated("s stream tcp nowait root /x\n"),
}


def checked(path: Path) -> tuple[float, int, str]:
    """Seconds of a processor and bytes of memory that `--check` takes, and what it says."""
    with (path.parent / "said").open("w+") as said:
        child = subprocess.Popen([sys.executable, "-m", "fastinetd", "--check", "-f", path], stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    assert child.returncode in (0, 1), text[-1000:]
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text


@pytest.mark.parametrize("name", RUBBISH)
def test_one_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(RUBBISH[name]())
    seconds, size, said = checked(tmp_path / name)
    assert (seconds < SECONDS, size < BYTES, len(said) < SAID) == (True, True, True), (seconds, size, len(said))


def test_many_files(tmp_path: Path) -> None:
    """Fifty-six MB: what is beyond the bound is told for each file, and not read."""
    folder = tmp_path / "d"
    folder.mkdir()
    text = repeated("n{n} = v\n")[: MOST_BYTES - 1000]
    for number in range(14):
        (folder / f"f{number:02}").write_text(text)
    (tmp_path / "x.conf").write_text(f"includedir {folder}\n")
    seconds, size, said = checked(tmp_path / "x.conf")
    assert (seconds < SECONDS, size < BYTES, len(said) < SAID) == (True, True, True), (seconds, size, len(said))
    for number in range(1, 14):
        assert f"{folder}/f{number:02}': with it the configuration has more than 4 MiB" in said


def test_a_file_beyond_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    for length, fatal in ((MOST_BYTES, False), (MOST_BYTES + 1, True)):
        path.write_bytes(b"#" * length)
        report = Report()
        assert load_config(str(path), report=report).fatal == fatal
        assert [each.code for each in report] == (["cannot-read"] if fatal else [])


def test_where_a_long_key_is(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[service.a]\nport = 1\n  " + "a." * 40 + "b = 1\n")
    report = Report()
    assert load_config(str(path), report=report).fatal
    assert [(each.place.line, each.place.column) for each in report] == [(3, 3)]
    assert "a key of more than 32 parts" in str(*report)
    path.write_text('[defaults]\nonly_from = ["' + "10.0.0.1 " * 100 + '"]\n')
    load_config(str(path), report=(found := Report()))
    assert "parts" not in str([*found])
