"""The command line: xinetd's options in their own spelling, and fastinetd's."""

from __future__ import annotations

import pytest

from fastinetd import __version__
from fastinetd.cli.options import make_parser, parse_address, parse_options
from fastinetd.logs.xinetd_format import XinetdFormats


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("-d", "debug", True),
        ("-syslog daemon", "syslog", "daemon"),
        ("-filelog /var/log/x", "filelog", "/var/log/x"),
        ("-f /etc/x.conf", "file", "/etc/x.conf"),
        ("-pidfile /run/x.pid", "pidfile", "/run/x.pid"),
        ("-dontfork", "foreground", True),
        ("-stayalive", "stay_alive", True),
        ("-limit 12", "limit", 12),
        ("-limit 0", "limit", None),
        ("-logprocs 7", "log_procs", 7),
        ("-shutdownprocs 7", "log_procs", 7),
        ("-reuse", "reuse", True),
        ("-inetd_compat", "inetd_compat", True),
        ("-cc 60", "check_every", 60),
    ],
)
def test_options_of_xinetd(words: str, name: str, value: object) -> None:
    options, warnings = parse_options(words.split())
    assert getattr(options, name) == value
    assert warnings == []


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--debug", "debug", True), ("--file /x", "file", "/x"), ("--file=/x", "file", "/x"),
        ("--inetd", "inetd", "/etc/inetd.conf"), ("--inetd /x", "inetd", "/x"),
        ("--dialect freebsd", "dialect", "freebsd"), ("--metrics :9100", "metrics", ":9100"),
        ("--inetd-compat", "inetd_compat", True), ("--check", "check", True), ("--demo", "demo", True),
        ("--foreground", "foreground", True), ("--stay-alive", "stay_alive", True), ("--pid-file /x", "pidfile", "/x"),
        ("--limit 3", "limit", 3), ("--acceptors 4", "acceptors", 4), ("--consistency-check 5", "check_every", 5),
        ("--file-log /x", "filelog", "/x"), ("--syslog auth", "syslog", "auth"),
        ("--log-procs 3", "log_procs", 3), ("--reuse", "reuse", True),
    ],
)  # fmt: skip
def test_own_options(words: str, name: str, value: object) -> None:
    assert getattr(parse_options(words.split())[0], name) == value


def test_as_distributions_start_xinetd() -> None:
    debian = ["-pidfile", "/run/xinetd.pid", "-stayalive", "-inetd_compat", "-inetd_ipv6"]
    red_hat = ["-stayalive", "-pidfile", "/run/xinetd.pid", "", "-inetd_compat"]  # an empty variable, quoted
    for words in (debian, red_hat):
        options, warnings = parse_options(words)
        assert (options.pidfile, options.stay_alive, options.inetd_compat) == ("/run/xinetd.pid", True, True)
        assert warnings == []


def test_nothing() -> None:
    options, warnings = parse_options([])
    assert (options.file, options.inetd, options.debug, options.acceptors, options.check_every) == (
        None, None, False, None, 0,
    )  # fmt: skip
    assert options.dialect is None
    assert warnings == []


@pytest.mark.parametrize("word", ["-unheard", "-inetd_ipv4", "-x"])
def test_unknown_options_with_one_dash_are_told_and_ignored(word: str) -> None:
    options, warnings = parse_options([word, "-d"])
    assert options.debug
    assert len(warnings) == 1
    assert word in warnings[0]
    assert "--help" in warnings[0]


@pytest.mark.parametrize("word", ["-foo", "-fork", "-dd", "-limits", "-pid"])
def test_unknown_options_are_not_taken_for_the_beginning_of_others(word: str) -> None:
    options, warnings = parse_options([word])
    assert (options.file, options.debug, options.limit, options.pidfile) == (None, False, None, None)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    "words",
    [
        "--unheard", "--che", "file", "-limit", "-limit many", "-limit -1", "-cc x", "--acceptors 0", "--acceptors 33",
        "-check", "-help", "-demo", "-debug", "-inetd /x", "-metrics :9100",
        "-f/etc/x.conf", "--dialect solaris", "-syslog daemon -filelog /x", "-f", "--acceptors 1.5", "--limit=",
    ],
)  # fmt: skip
def test_errors_are_one_line_and_status_1(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(words.split())
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("fastinetd: ")
    assert said.err.endswith("see fastinetd --help\n")


@pytest.mark.parametrize("option", ["-f", "--inetd", "-pidfile", "-filelog", "-syslog", "--metrics"])
def test_an_empty_word_means_nothing_else(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """-f with an empty variable of an init script would read /etc/xinetd.conf."""
    with pytest.raises(SystemExit) as ended:
        parse_options(["-stayalive", option, ""])
    assert ended.value.code == 1
    assert "an empty word" in capsys.readouterr().err


def test_the_log_looks_as_xinetd_writes_it() -> None:
    assert parse_options([])[0].formats is XinetdFormats


def test_options_that_the_demo_has_no_use_for() -> None:
    _, warnings = parse_options(["--demo", "--dialect", "debian", "-E", "-inetd_compat"])
    assert [warning.split()[0] for warning in warnings] == ["--dialect", "-E", "-inetd_compat"]


@pytest.mark.parametrize("word", ["-version", "--version"])
def test_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options([word])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fastinetd Version {__version__}\n"


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--help"])
    said = capsys.readouterr().out
    for action in make_parser()._actions:
        assert action.help
        for word in action.option_strings:
            assert word in said


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9100", (None, 9100)),
        ("9100", (None, 9100)),
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:9100", ("::1", 9100)),
        ("[::]:65535", ("::", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_addresses_of_metrics(text: str, address: tuple[str | None, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "x", "127.0.0.1", ":0", ":65536", ":-1", ":+1", ":1 ", ": 1", "::1", "::1:9100", "[::1]", "[::1]9100",
     "[1.2.3.4]:1", "[]:1", "a b:1", "http://x:1", "[::1:9100", "::1]:9100", ":\u0661", ":000009100", "1.2.3.4:x"],
)  # fmt: skip
def test_addresses_of_metrics_of_another_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of the form \[HOST\]:PORT") as told:
        parse_address(text)
    assert repr(text) in str(told.value)
