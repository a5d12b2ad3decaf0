"""Corner cases of value parsers that the golden pairs do not show."""

import pytest

from fastinetd.config import values
from fastinetd.config.model import UNLIMITED, Rate
from fastinetd.config.settings import SETTINGS
from fastinetd.config.values import BadValue


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "-1", "1_0", "0x1", "٣", "²", "9" * 19])
def test_not_a_number(text: str) -> None:
    assert values.number(text) is None


@pytest.mark.parametrize(("text", "found"), [("0", 0), ("010", 10), ("9" * 18, int("9" * 18))])
def test_number(text: str, found: int) -> None:
    assert values.number(text) == found


@pytest.mark.parametrize(
    ("attribute", "text", "found"),
    [
        ("port", "+80", 80), ("instances", "+3", 3), ("per_source", "+3", 3), ("nice", "+5", 5), ("umask", "+2", 2),
        ("max_load", "+2.5", 2.5), ("rlimit_as", "+4k", 4096), ("rlimit_cpu", "+4", 4), ("cps", "+5 +6", Rate(5, 1, 6)),
        ("rlimit_as", "-1", UNLIMITED), ("rlimit_cpu", "-1", UNLIMITED), ("rlimit_files", "-1", UNLIMITED),
        ("rlimit_as", "18446744073709551615", UNLIMITED), ("rlimit_data", "9223372036854775807", UNLIMITED),
    ],
)  # fmt: skip
def test_numbers_that_xinetd_understands(attribute: str, text: str, found: object) -> None:
    assert SETTINGS[attribute].parse(text.split()) == found


@pytest.mark.parametrize(
    ("attribute", "text"),
    [("instances", "++3"), ("port", "+-3"), ("rlimit_as", "-2"), ("instances", "-1"), ("access_times", "+1:00-2:00")],
)
def test_numbers_that_are_none(attribute: str, text: str) -> None:
    with pytest.raises(BadValue):
        SETTINGS[attribute].parse([text])


@pytest.mark.parametrize("limits", ["0", "0K", "0 0", "0 10K"])
def test_a_soft_limit_of_nothing_is_no_limit(limits: str) -> None:
    found = values.log_type(["FILE", "/log", *limits.split()])
    assert (found.soft_limit, found.hard_limit) == (None, None)


@pytest.mark.parametrize(
    ("text", "found"), [("1k", 1024), ("1K", 1024), ("2m", 2 << 20), ("7", 7), ("k", None), ("1g", None), ("", None)]
)
def test_size(text: str, found: int | None) -> None:
    assert values.size(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0:00-24:00", (0, 1439)),
        ("24:00-6:00", (0, 360)),
        ("22:00-24:00", (1320, 1439)),
        ("23:59-0:00", (1439, 0)),
        ("8:00-8:00", (480, 480)),
        ("8:5-9:05", (485, 545)),
    ],
)
def test_times(text: str, found: tuple[int, int]) -> None:
    assert values.times([text]) == (found,)


@pytest.mark.parametrize(
    "text",
    [
        "24:01-1:00",
        "8-9",
        "8:00",
        "8:00-9:00-10:00",
        "-",
        ":-:",
        "8:00 -9:00",
        "08:00-9:60",
        "x:30-9:00",
        "8:x-9:00",
        "8:00-9:x",
    ],
)
def test_bad_times(text: str) -> None:
    with pytest.raises(BadValue):
        values.times([text])


def test_index_of_the_bad_word() -> None:
    for name, words, index in (
        ("cps", ["5", "x"], 1),
        ("cps", ["x", "5"], 0),
        ("cps", [str(2**31), "5"], 0),
        ("cps", ["5", str(2**31)], 1),
        ("flags", ["REUSE", "REUSE", "x"], 2),
        ("log_type", ["SYSLOG", "daemon", "loud"], 2),
        ("env", ["A=1", "=1"], 1),
        ("only_from", ["a", "b,c"], 1),
    ):
        with pytest.raises(BadValue) as raised:
            SETTINGS[name].parse(words)
        assert raised.value.index == index


def test_commas_are_at_home_in_braces() -> None:
    assert values.addresses(["10.0.0.{1,2}", "{1,2}"]) == ("10.0.0.{1,2}", "{1,2}")
    for text in ("10.0.0.1,10.0.0.{2,3}", "10.0.0.{1,2},10.0.0.3"):
        with pytest.raises(BadValue, match="blanks go between addresses"):
            values.addresses([text])


def test_limits() -> None:
    assert values.memory_limit(["unlimited"]) == UNLIMITED
    assert values.plain_limit(["UNLIMITED"]) == UNLIMITED
    assert values.count(["unlimited"]) is None
    with pytest.raises(BadValue):
        values.memory_limit(["9" * 18 + "M"])


@pytest.mark.parametrize("text", [
    "127.0.0.300", "1.2.3.4.5", "1.2.3.4.0", "127.0.0.", "256.1", "1.2.65536", "....", ":::", "::1::",
])  # fmt: skip
def test_no_address_to_bind(text: str) -> None:
    with pytest.raises(BadValue):
        values.binds(["127.0.0.1", text])


@pytest.mark.parametrize(("texts", "index"), [
    (["/a", "/b"], 0), (["/a", "eth0"], 0), (["eth0", "/a"], 1), (["a/b"], 0),
])  # fmt: skip
def test_one_path_and_nothing_else_to_bind(texts: list[str], index: int) -> None:
    assert values.binds(["/a"]) == ("/a",)
    with pytest.raises(BadValue) as raised:
        values.binds(texts)
    assert raised.value.index == index


@pytest.mark.parametrize("text", ["127.1", "255.255.255.255", "1.2.65535", "::1", "fe80::1%eth0", "eth0", "a.b", "4x4"])
def test_address_or_name_to_bind(text: str) -> None:
    assert values.binds([text]) == (text,)


@pytest.mark.parametrize(("name", "good", "bad"), [
    ("instances", ["0", "2147483647"], ["2147483648", "-1"]),
    ("cps", ["2147483647 2147483647"], ["2147483648 1", "1 2147483648"]),
    ("max_load", ["0.01", "1", "2."], ["0", "0.0", "1.2.3", "-1"]),
    ("max_load", ["9" * 18, "9." + "9" * 17], ["9" * 19, "9." + "9" * 18]),
    ("max_rss", ["8796093022207M"], ["8796093022208M"]),  # one MiB below 2 to the 63rd, and that
    ("rlimit_as", ["0", "8796093022207M"], ["8796093022208M"]),
    ("umask", ["0", "777"], ["1000", "8"]),
    ("nice", ["-20", "19", "+5"], ["--5", "x"]),
    ("deny_time", ["0", "2147483647", "forever", "Never"], ["2147483648"]),
    ("rpc_version", ["2", "2-2", "2-3"], ["3-2", "-"]),
    ("access_times", ["0:00-23:59"], ["0:60-1:00", "0:00-24:01"]),
])  # fmt: skip
def test_bounds(name: str, good: list[str], bad: list[str]) -> None:
    for text in good:
        SETTINGS[name].parse(text.split())
    for text in bad:
        with pytest.raises(BadValue):
            SETTINGS[name].parse(text.split())


def test_sizes_of_buffers_and_processes() -> None:
    assert values.buffer(["2097151K"]) == 2**31 - 1024
    assert values.size_limit(["1M"]) == 2**20
    for parse in (values.buffer, values.size_limit):
        with pytest.raises(BadValue):
            parse(["0"])
    with pytest.raises(BadValue):
        values.buffer(["2048M"])


@pytest.mark.parametrize("low", [0, 1])
@pytest.mark.parametrize("text", ["-0", "-5", "++5"])
def test_no_sign_where_nothing_is_negative(low: int, text: str) -> None:
    assert values.whole(low, 9)(["5"]) == 5
    with pytest.raises(BadValue):
        values.whole(low, 9)([text])


def test_rates() -> None:
    assert values.rate(["0", "5"]) is None
    assert values.rate(["7", "5"]) == Rate(7, 1.0, 5)
    assert (values.deny_time(["FOREVER"]), values.deny_time(["NEVER"]), values.deny_time(["3"])) == (UNLIMITED, 0, 3)


@pytest.mark.parametrize(("soft", "hard"), [
    (1000, 1000 + 5 * 1024), (10**6, 10**6 + 10**4), (10**8, 10**8 + 20 * 1024),
])  # fmt: skip
def test_how_far_a_log_may_grow(soft: int, hard: int) -> None:
    """Beyond the soft limit, where no hard one is written: as xinetd's, a hundredth, from 5 KiB to 20 KiB."""
    made = values.log_type(["FILE", "/x", str(soft)])
    assert (made.soft_limit, made.hard_limit) == (soft, hard)
    assert values.log_type(["FILE", "/x", "5", "5"]).hard_limit == 5
    assert values.log_type(["SYSLOG", "DAEMON"]).level == "info"
    with pytest.raises(BadValue):
        values.log_type(["FILE", "/x", "5", "4"])


@pytest.mark.parametrize("text", ["x-3", "3-x", "-", "3-", "-3", "4-3", "x", ""])
def test_no_versions(text: str) -> None:
    with pytest.raises(BadValue):
        values.versions([text])


@pytest.mark.parametrize(("text", "found"), [("3", (3, 3)), ("2-2", (2, 2)), ("1-3", (1, 3))])
def test_versions(text: str, found: tuple[int, int]) -> None:
    assert values.versions([text]) == found


def test_the_smallest_and_the_largest_buffer() -> None:
    assert [values.buffer([text]) for text in ("1", str(2**31 - 1))] == [1, 2**31 - 1]


def test_words_of_syslog() -> None:
    """The facilities and levels of xinetd.conf(5), and no more."""
    named = {"daemon", "auth", "authpriv", "user", "mail", "lpr", "news", "uucp", "ftp", "cron", "syslog", "kern"}
    assert sorted(values.FACILITIES) == sorted(named | {f"local{number}" for number in range(8)})
    assert values.LEVELS == ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
