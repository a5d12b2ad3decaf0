"""Whatever the text: services or messages, never an exception, and every place lies inside the text."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinetd.config import inetd, toml, xinetd
from fastinetd.config.build import build_config
from fastinetd.config.diagnostics import Report
from fastinetd.config.dialects import DIALECTS
from fastinetd.config.entries import Entries
from fastinetd.config.model import Config, Place
from fastinetd.config.settings import SETTINGS
from fastinetd.config.values import BadValue

NAMES = [*SETTINGS, "frobnicate", "service", "defaults", "{", "}"]
WORDS = st.sampled_from(
    [
        *("yes", "no", "UNLISTED", "INTERNAL", "RPC", "stream", "dgram", "tcp", "udp", "unix", "UNLIMITED", "FOREVER"),
        *(
            "0",
            "1",
            "-1",
            "10K",
            "99999999999999999999999",
            "2.5",
            "nan",
            "1e400",
            "8:00-9:00",
            "24:00-24:00",
            "٣",
            "²",
        ),
        *(
            "SYSLOG",
            "FILE",
            "daemon",
            "/x",
            "a=b",
            "=",
            "+=",
            "#",
            "#x",
            "}",
            "{",
            "1.2.3.4",
            "::1",
            "a,b",
            "{1,2}",
            "\x00",
        ),
        *("IPv4", "SENSOR", "PID", "\udcff", "\xa0", "", "%", "{value}", '"', "'", "\\"),
    ],
)
ANYTHING = st.one_of(WORDS, st.text(max_size=8))
ATTRIBUTE = st.builds(
    lambda name, blank, operator, values: f"{name}{blank}{operator} {' '.join(values)}",
    st.sampled_from(NAMES),
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from(["=", "+=", "-=", "", "=="]),
    st.lists(ANYTHING, max_size=4),
)
LINE = st.one_of(
    ATTRIBUTE,
    st.sampled_from(
        ["{", "}", "} #", "service a", "service a {", "service", "defaults", "include x", "includedir", "#", ""]
    ),
    st.text(max_size=12),
)
BLOCK = st.builds(
    lambda head, body: "\n".join([head, "{", *body, "}"]),
    st.sampled_from(["service a", "defaults"]),
    st.lists(ATTRIBUTE),
)
XINETD = st.lists(st.one_of(LINE, BLOCK), max_size=12).map("\n".join)

INETD_WORD = st.one_of(
    st.sampled_from(
        [
            *(
                "ftp",
                "8080",
                "*:ftp",
                "[::1]:ftp",
                "1.2.3.4:",
                ":",
                ":::a",
                "/run/x",
                ":a:b:c:/x",
                "tcpmux/x",
                "x/1-3",
                "on",
            ),
            *(
                "stream",
                "dgram",
                "tcp",
                "udp6",
                "tcp46",
                "rpc/udp",
                "unix",
                "tcp,rcvbuf=1k",
                "tcp,sndbuf=,",
                "wait",
                "nowait",
            ),
            *(
                "nowait.5",
                "nowait:5",
                "nowait/1/2/3",
                "wait.",
                "root",
                "a:b",
                "a.b",
                ".",
                "a/b",
                "/x",
                "internal",
                "#",
                "#@",
                "\\",
            ),
        ],
    ),
    ANYTHING,
)
INETD = st.lists(
    st.builds(
        lambda lead, words: lead + " ".join(words),
        st.sampled_from(["", " ", "\t", "#"]),
        st.lists(INETD_WORD, max_size=9),
    ),
    max_size=8,
).map("\n".join)

ITEM = st.recursive(
    st.one_of(st.text(max_size=6), WORDS, st.integers(), st.floats(allow_nan=True), st.booleans()),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() else f"\\u{min(ord(c), 0xD7FF):04x}" for c in value) + '"'
    return str(value)


TOML = st.lists(
    st.one_of(
        st.builds(
            lambda name, value: f"{name} = {toml_value(value)}", st.sampled_from([*SETTINGS, "include", "x.y"]), ITEM
        ),
        st.sampled_from(
            ["[defaults]", "[service.a]", '[service."b c"]', "[[service]]", "[service]", "[x]", "#", '"""']
        ),
        st.text(max_size=8),
    ),
    max_size=8,
).map("\n".join)


def nothing(keyword: str, path: str, place: Place) -> Iterable[tuple[str, str]]:
    return ()


def holds(text: str, config: Config, report: Report) -> None:
    lines = text.split("\n")
    for diagnostic in report:
        assert diagnostic.place.file == "file"
        assert 1 <= diagnostic.place.line <= len(lines)
        assert 1 <= diagnostic.place.column <= len(lines[diagnostic.place.line - 1]) + 2
        assert len(str(diagnostic)) < 1000
        str(diagnostic).encode("utf-8", "surrogateescape")
    for service in (*config.services, *config.broken):
        assert service.places.keys() <= SETTINGS.keys()
        for place in service.places.values():
            assert 1 <= place.line <= len(lines)
        assert "\0" not in "".join((*service.argv, service.name, service.id, service.server or "", *service.bind))
    if config.broken or config.fatal:
        assert report.errors


def read_xinetd(text: str) -> None:
    report, entries = Report(), Entries()
    xinetd.read_xinetd(text, "file", entries, nothing, report)
    holds(text, build_config(entries, "file", report), report)


@given(XINETD)
@settings(max_examples=400, deadline=None)
def test_xinetd(text: str) -> None:
    read_xinetd(text)


@given(INETD, st.sampled_from(sorted(DIALECTS)))
@settings(max_examples=400, deadline=None)
def test_inetd(text: str, dialect: str) -> None:
    report = Report()
    config = inetd.read_inetd(text, "file", dialect, report)
    holds(text, config, report)
    assert len({service.id for service in config.services}) == len(config.services)


@given(TOML)
@settings(max_examples=400, deadline=None)
def test_toml(text: str) -> None:
    report = Report()
    holds(text, toml.read_toml(text, "file", nothing, report), report)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    read_xinetd(text)
    report = Report()
    holds(text, inetd.read_inetd(text, "file", "debian", report), report)
    report = Report()
    holds(text, toml.read_toml(text, "file", nothing, report), report)


@pytest.mark.parametrize("name", SETTINGS)
@given(words=st.lists(ANYTHING, min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_parsers_raise_only_bad_value(name: str, words: list[str]) -> None:
    setting = SETTINGS[name]
    words = words[: setting.count] if setting.count > 0 else words
    try:
        setting.parse(words)
    except BadValue as bad:
        assert 0 <= bad.index < len(words)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000_000,
        "a " * 2_000_000,
        "service a\n{\n" + "env = A=" + "b" * 10_000_000 + "\n}\n",
        "\n" * 1_000_000,
        "[" * 100_000,
    ],
    ids=["word", "words", "value", "lines", "nested"],
)
def test_huge(text: str) -> None:
    read_xinetd(text)
    for dialect in ("debian", "busybox"):
        inetd.read_inetd(text, "file", dialect, Report())
    toml.read_toml(text, "file", nothing, Report())
