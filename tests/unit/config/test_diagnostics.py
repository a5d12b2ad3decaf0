"""One example for each message of the readers: what is written, and where the message points."""

import re
from pathlib import Path

import pytest

import fastinetd.config
from fastinetd.config import inetd, toml, xinetd
from fastinetd.config.diagnostics import CATALOGUE, DIAGNOSTICS_KEPT, Report, Severity
from fastinetd.config.load import INCLUDE_DEPTH, load_config

SERVICE = (
    "service a\n{\ntype = UNLISTED\nsocket_type = stream\nport = 7000\nwait = no\nuser = nobody\nserver = /bin/true\n"
)
LINE = 9  # of what follows SERVICE

Example = tuple[str, str, tuple[int, int]]  # kind of configuration, its text, line and column of the message


def lines(*more: str) -> str:
    return SERVICE + "\n".join(more) + "\n}\n"


EXAMPLES: dict[str, Example] = {
    "slash-comment": ("xinetd", lines("  // nice = 5"), (LINE, 3)),
    "close-in-line": ("xinetd", SERVICE + "nice = 5 }\nservice b\n{\n}\n", (LINE, 10)),
    "nul-byte": ("xinetd", lines("env = A=\0"), (LINE, 9)),
    "no-keyword": ("xinetd", "\nfoo bar\n", (2, 1)),
    "no-service-name": ("xinetd", "service\n{\n}\n", (1, 1)),
    "no-path": ("xinetd", "  include\n", (1, 3)),
    "no-open-brace": ("xinetd", "service a {\n}\n", (1, 1)),
    "stray-open": ("xinetd", "#defaults\n{\n}\n", (2, 1)),
    "stray-close": ("xinetd", " }\n", (1, 2)),
    "no-close-brace": ("xinetd", SERVICE, (8, 1)),
    "no-operator": ("xinetd", lines("  umask 022"), (LINE, 3)),
    "no-attribute": ("xinetd", lines(" = 022"), (LINE, 2)),
    "second-defaults": ("xinetd", "defaults\n{\n}\ndefaults\n{\n}\n", (4, 1)),
    "text-after-brace": ("xinetd", "defaults\n{\n} # end\n", (3, 3)),
    "entry-after-brace": ("xinetd", "defaults\n{\n} service a\n" + lines().partition("\n")[2], (3, 3)),
    "words-behind": ("xinetd", "include /nope ope\n", (1, 15)),
    "include-in-block": ("xinetd", lines("  include /etc/more"), (LINE, 3)),
    "trailing-comment": ("xinetd", lines("nice = 5 # low"), (LINE, 10)),
    "hash-in-arguments": ("xinetd", lines("server_args = a # b"), (LINE, 17)),
    "unknown-attribute": ("xinetd", lines(" scoket_type = stream"), (LINE, 2)),
    "not-in-defaults": ("xinetd", "defaults\n{\nport = 5\n}\n", (3, 1)),
    "only-in-defaults": ("xinetd", lines("enabled = a"), (LINE, 1)),
    "already-set": ("xinetd", lines("nice = 5", "nice = 6"), (LINE + 1, 1)),
    "list-replaced": ("xinetd", lines("no_access = 10.0.0.1", "no_access = 10.0.0.2"), (LINE + 1, 1)),
    "bind-adds": ("xinetd", lines("bind = 127.0.0.1", "bind = 127.0.0.2"), (LINE + 1, 1)),
    "log-type-again": ("xinetd", "defaults\n{\nlog_type = FILE /a\nlog_type = FILE /b\n}\n", (4, 1)),
    "wrong-operator": ("xinetd", lines("nice += 5"), (LINE, 1)),
    "cannot-take-away": ("xinetd", lines("env -= A=1"), (LINE, 1)),
    "wrong-count": ("xinetd", lines("cps = 5"), (LINE, 7)),
    "bad-count": ("xinetd", lines("flags ="), (LINE, 8)),
    "bad-value": ("xinetd", lines("access_times = 8:00-9:00 soon"), (LINE, 26)),
    "bad-default": ("xinetd", "defaults\n{\ninstances = many\n}\n", (3, 13)),
    "not-implemented": ("xinetd", lines("log_on_failure = HOST USERID"), (LINE, 23)),
    "not-started": ("xinetd", lines("redirect = 192.0.2.1 80"), (LINE, 12)),
    "unknown-id": ("xinetd", "defaults\n{\ndisabled = a b\n}\n" + lines(), (3, 14)),
    "missing-attribute": ("xinetd", "service a\n{\nsocket_type = stream\nuser = x\nserver = /x\n}\n", (1, 1)),
    "no-such-internal": ("xinetd", "service a\n{\ntype = INTERNAL\nsocket_type = stream\nwait = no\n}\n", (1, 1)),
    "dgram-nowait": ("xinetd", lines().replace("stream", "dgram"), (6, 8)),
    "no-name-in-args": ("xinetd", lines("flags = NAMEINARGS"), (LINE, 9)),
    "socket-and-protocol": ("xinetd", lines("protocol = udp"), (LINE, 12)),
    "handler-needs": ("xinetd", lines("handler = a:b").replace("server = /bin/true", ""), (LINE, 11)),
    "handler-and-server": ("xinetd", lines("spawn = worker", "handler = a:b"), (LINE + 1, 11)),
    "inetd-attribute": ("inetd", "a stream tcp nowait root /x;spawn=zygote;first_io\n", (1, 42)),
    "inetd-fields": ("inetd", "a stream tcp nowait\n", (1, 14)),
    "inetd-service": ("inetd", "0 stream tcp nowait root /x\n", (1, 1)),
    "inetd-socket-type": ("inetd", "a rdm tcp nowait root /x\n", (1, 3)),
    "inetd-protocol": ("inetd", "a stream ipx nowait root /x\n", (1, 10)),
    "inetd-pair": ("inetd", "a stream udp nowait root /x\n", (1, 3)),
    "inetd-buffer": ("inetd", "a stream tcp,rcvbuf=x nowait root /x\n", (1, 10)),
    "inetd-wait": ("inetd", "a stream tcp nowaits root /x\n", (1, 14)),
    "inetd-limit": ("inetd", "a stream tcp nowait.x root /x\n", (1, 14)),
    "inetd-foreign": ("inetd", "a stream tcp nowait:5 root /x\n", (1, 14)),
    "inetd-group": ("inetd", "a stream tcp nowait root:mail /x\n", (1, 21)),
    "inetd-per-minute": ("inetd", "a stream tcp nowait/1/2 root /x\n", (1, 14)),
    "inetd-user": ("inetd", "a stream tcp nowait /bin/x /x\n", (1, 21)),
    "inetd-server": ("inetd", "a stream tcp nowait root x\n", (1, 26)),
    "inetd-internal": ("inetd", "a stream tcp nowait root internal\n", (1, 1)),
    "inetd-dgram-nowait": ("inetd", "a dgram udp nowait root /x\n", (1, 13)),
    "inetd-rpc": ("inetd", "a/1 stream rpc/tcp nowait root /x\n", (1, 12)),
    "inetd-tcpmux": ("inetd", "tcpmux/a stream tcp nowait root /x\n", (1, 1)),
    "inetd-address": ("inetd", "[::1]:a stream tcp4 nowait root /x\n", (1, 1)),
    "inetd-quote": ("freebsd", 'a stream tcp nowait root /x "b\n', (1, 29)),
    "inetd-policy": ("netbsd", "#@ ipsec\n", (1, 1)),
    "inetd-key-value": ("inetd", "a on protocol = tcp ;\n", (1, 3)),
    "toml-syntax": ("toml", "[a\n", (1, 3)),
    "toml-type": ("toml", "[service.a]\nnice = 1979-05-27\n", (2, 8)),
    "toml-table": ("toml", "[services.a]\n", (1, 1)),
}

BY_HAND = {
    "too-many-entries",
    "name-skipped",
    "cannot-read",
    "cannot-include",
    "include-cycle",
    "include-depth",
    "not-a-file",
    "unknown-kind",
    "unknown-dialect",
    "in-xinetd",
}
"""Tested below and in test_original.py: they need files, or options."""


@pytest.mark.parametrize("code", EXAMPLES)
def test_example(code: str, tmp_path: Path) -> None:
    kind, text, (line, column) = EXAMPLES[code]
    report = said(tmp_path, kind, text)
    found = [d for d in report if d.code == code]
    assert len(found) == 1, [str(d) for d in report]
    assert (found[0].place.line, found[0].place.column) == (line, column)
    assert str(found[0]).startswith(f"{tmp_path}/x.conf:{line}:{column}: {found[0].severity.value}: ")


def said(folder: Path, kind: str, text: str) -> Report:
    path = folder / "x.conf"
    path.write_text(text)
    report = Report()
    dialect = kind if kind in ("freebsd", "netbsd") else "debian"
    load_config(str(path), kind="inetd" if kind == dialect else kind, dialect=dialect, report=report)
    return report


def used() -> set[str]:
    """The codes that modules of this package report."""
    folder = Path(fastinetd.config.__file__).parent
    files = sorted(folder.glob("*.py"))
    assert len(files) == 18
    sources = "".join(path.read_text() for path in files if path.name != "diagnostics.py")
    return set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', sources)) & CATALOGUE.keys()


def test_every_message_has_an_example() -> None:
    assert used() == EXAMPLES.keys() | BY_HAND


def test_every_text_says_what_to_do() -> None:
    for code in used():
        severity, text = CATALOGUE[code]
        assert isinstance(severity, Severity)
        assert "; " in text, code
        assert not text.endswith("."), code


def test_unreadable_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.conf", tmp_path):
        report = Report()
        config = load_config(str(path), report=report)
        assert config.fatal
        assert [(d.code, d.place.file) for d in report] == [("cannot-read", str(path))]


def test_unreadable_include(tmp_path: Path) -> None:
    report = said(tmp_path, "xinetd", f"include {tmp_path}/a\nincludedir {tmp_path}/b\ninclude {tmp_path}\n")
    assert [(d.code, d.place.line, d.place.column) for d in report] == [
        ("cannot-include", 1, 9),
        ("cannot-include", 2, 12),
        ("cannot-include", 3, 9),
    ]


def test_include_cycle(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(f"include {tmp_path}/link\n" + lines())
    (tmp_path / "link").symlink_to(tmp_path / "x.conf")
    report = said(tmp_path, "xinetd", f"include {tmp_path}/other\n")
    assert [(d.code, d.place.file) for d in report] == [("include-cycle", f"{tmp_path}/other")]


def test_include_depth(tmp_path: Path) -> None:
    for number in range(INCLUDE_DEPTH + 1):
        (tmp_path / str(number)).write_text(f"include {number + 1}\n")
    report = said(tmp_path, "xinetd", "include 0\n")
    assert [d.code for d in report] == ["include-depth"]


def test_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "d" / "folder").mkdir(parents=True)
    report = said(tmp_path, "xinetd", "includedir d\n")
    assert [(d.code, d.severity) for d in report] == [("not-a-file", Severity.NOTE)]


def test_names_that_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a.conf", "b~", "c", ".hidden"):
        (tmp_path / "d" / name).write_text("")
    report = said(tmp_path, "xinetd", "\nincludedir d\n")
    assert [(d.code, d.place.line, d.place.column) for d in report] == [("name-skipped", 2, 12)] * 2
    assert ["/d/a.conf" in d.text or "/d/b~" in d.text for d in report] == [True, True]


@pytest.mark.parametrize(
    "text",
    [
        SERVICE.replace("{\n", "") + "}\n",  # no opening brace
        SERVICE.replace("{", "(") + ")\n",
        SERVICE.replace("{", "[") + "}\n",
        SERVICE,
        SERVICE + ")\n" + SERVICE + "}\n",
        SERVICE + "{\n" + SERVICE.partition("{")[2] + "}\n",  # neither `}` nor a header
        SERVICE.rstrip() + " }\nservice b\n{\ndisable = yes\n}\n",
        SERVICE.replace("\n", " ") + "}\n",  # all on one line
        "service a (\n}\n",
        "serivce a\n{\ntype = UNLISTED\n}\n",
        "what\nis = this\n}\nfor = a\nfile\n",
    ],
)
def test_one_error_for_one_brace(text: str, tmp_path: Path) -> None:
    report = said(tmp_path, "xinetd", text)
    assert [d.severity for d in report] == [Severity.ERROR], [str(d) for d in report]


def test_rubbish_is_bounded(tmp_path: Path) -> None:
    """Whatever the kind of file: so many are kept and all are counted, and equal ones at one place are one."""
    many = 3 * DIAGNOSTICS_KEPT
    for kind, text in (
        ("xinetd", "service a\n{\n" + "".join(f"name{n} value\n" for n in range(many)) + "}\n"),
        ("xinetd", "".join(f"service a{n}\n{{\n}}\n" for n in range(many))),
        ("debian", "".join(f"a{n} b\n" for n in range(many))),
    ):
        report = said(tmp_path, kind, text)
        assert len([*report]) == DIAGNOSTICS_KEPT
        assert report.errors >= many
        assert report.left_out == f"{report.errors - DIAGNOSTICS_KEPT} more errors"


def test_more_entries_than_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xinetd, "MOST_ENTRIES", 2)
    monkeypatch.setattr(inetd, "MOST_ENTRIES", 2)
    monkeypatch.setattr(toml, "MOST_ENTRIES", 2)
    for kind, text, line in (("xinetd", lines() * 4, 1 + 2 * lines().count("\n")),
                             ("toml", "".join(f"[service.{n}]\n" for n in "abcd"), 3),
                             ("debian", "".join(f"{n} stream tcp nowait root /x\n" for n in range(1, 5)), 3)):
        found = [d for d in said(tmp_path, kind, text) if d.code == "too-many-entries"]
        assert [(d.place.line, d.place.column) for d in found] == [(line, 1)]


def test_unknown_kind_and_dialect(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("")
    report = Report()
    assert load_config(str(path), kind="ini", report=report).fatal
    assert load_config(str(path), kind="inetd", dialect="solaris", report=report).fatal
    assert [d.code for d in report] == ["unknown-kind", "unknown-dialect"]
    assert "busybox, debian, freebsd" in [*report][1].text
