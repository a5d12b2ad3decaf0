"""Rules of the native TOML file."""

from pathlib import Path

import pytest

from fastinetd.config.model import Place, Rate
from support.readings import TomlReading

SERVICE = (
    'type = "UNLISTED"\nport = 7000\nsocket_type = "stream"\nwait = false\nuser = "nobody"\nserver = "/bin/probe"\n'
)


def test_a_plain_service(tmp_path: Path) -> None:
    service = TomlReading(tmp_path, "[service.probe]\n" + SERVICE + 'server_args = ["a b", "#c", ""]\n').only
    assert (service.name, service.id, service.port, service.argv) == (
        "probe",
        "probe",
        7000,
        ("probe", "a b", "#c", ""),
    )
    assert service.place == Place(str(tmp_path / "x.toml"), 1, 1)
    assert service.place_of("server") == Place(str(tmp_path / "x.toml"), 7, 10)


def test_says_the_same_as_xinetd_conf(tmp_path: Path) -> None:
    text = """[defaults]
only_from = "127.0.0.1 ::1"
cps = "9 9"
[service.a]
flags = ["IPv4", "NODELAY"]
log_type = ["FILE", "/a b"]
access_times = "8:00-9:00"
groups = true
umask = "022"
nice = -5
max_load = 1.5
env = {A = 1, B = "x y", C = true}
"""
    service = TomlReading(tmp_path, text + SERVICE).only
    assert (service.only_from, service.rate) == (("127.0.0.1", "::1"), Rate(9, 1.0, 9))
    assert (service.flags, service.log_type.path) == (frozenset({"IPv4", "NODELAY"}), "/a b")
    assert (service.access_times, service.groups, service.umask) == (((480, 540),), True, 0o22)
    assert (service.nice, service.max_load) == (-5, 1.5)
    assert service.env == (("A", "1"), ("B", "x y"), ("C", "yes"))


def test_name_and_table(tmp_path: Path) -> None:
    read = TomlReading(tmp_path, "[service.one]\nname='echo'\n" + SERVICE + "[service.two]\nid='2'\n" + SERVICE)
    assert [(service.name, service.id) for service in read.config.services] == [("echo", "one"), ("two", "2")]


def test_disabled_services_are_not_checked(tmp_path: Path) -> None:
    read = TomlReading(tmp_path, "[service.a]\ndisable = true\nserver = 1979-05-27\n")
    assert (read.config.services, read.config.broken, read.codes) == ((), (), [])


@pytest.mark.parametrize(
    "text", ["[a\n", "a = \n", 'a = """\n', "a = 1\na = 2\n", "a = " + "9" * 5000, "a = " + "[" * 5000]
)
def test_bad_syntax_is_fatal(tmp_path: Path, text: str) -> None:
    read = TomlReading(tmp_path, "[service.x]\n" + SERVICE + text)
    assert read.config.fatal
    assert read.config.services == ()
    assert read.codes == ["toml-syntax"]


def test_bad_defaults_are_fatal(tmp_path: Path) -> None:
    for text in ("umask = '9'", "umask = 1979-05-27", "cps = [1]"):
        assert TomlReading(tmp_path, f"[defaults]\n{text}\n").config.fatal


def test_places(tmp_path: Path) -> None:
    text = """[service.a]
  umask = 9
"nice"   =   "low"
env = [
  "A",
]
server_args = '''
nice = 5
'''
[service."b.c"]
umask = 8
service.d.umask = 7
"""
    read = TomlReading(tmp_path, text)
    assert [(d.text.split()[0], d.place.line, d.place.column) for d in read.report if d.code == "bad-value"] == [
        ("umask", 2, 11),
        ("nice", 3, 14),
        ("env", 5, 3),
        ("umask", 11, 9),
    ]


def test_remedies_are_toml(tmp_path: Path) -> None:
    """A bare yes or no would be an error of its own."""
    text = "[service.a]\n" + SERVICE.replace("wait = false\n", "")
    (found,) = TomlReading(tmp_path, text).report
    assert found.text == "service a has no wait; write `wait = true or false`"
    for value in ('"maybe"', "1979-05-27"):
        (problem,) = TomlReading(tmp_path, text + f"wait = {value}\n").report
        assert problem.text.endswith("; write true or false")


def test_include(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "one").write_text("[service.one]\n" + SERVICE)
    (tmp_path / "two.toml").write_text("include = 'x.toml'\n[service.two]\n" + SERVICE)
    read = TomlReading(tmp_path, "include = ['two.toml']\nincludedir = 'd'\n[defaults]\ninstances = 7\n")
    assert [(service.id, service.instances) for service in read.config.services] == [("two", 7), ("one", 7)]
    assert read.codes == ["include-cycle"]


def test_broken_include_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text("[")
    read = TomlReading(tmp_path, "include = ['two.toml']\n[service.a]\n" + SERVICE)
    assert (read.config.fatal, read.config.services) == (True, ())


def test_wrong_number_of_values_is_an_error(tmp_path: Path) -> None:
    read = TomlReading(tmp_path, "[service.a]\ncps = [5]\n" + SERVICE)
    assert (read.codes, read.config.services) == (["bad-count"], ())


@pytest.mark.parametrize(
    "line",
    ['no_access = ["10.0.0.1 10.0.0.2"]', 'only_from = ["::1", "10.0.0.1\\t10.0.0.2"]', 'bind = ["127.0.0.1 ::1"]',
     'passenv = ["A B"]'],
)  # fmt: skip
def test_an_item_that_is_several_is_no_value(tmp_path: Path, line: str) -> None:
    """Nobody would be refused for it, and nothing said but by --check."""
    read = TomlReading(tmp_path, "[service.a]\n" + SERVICE + line + "\n")
    assert (read.ids, read.codes) == ([], ["bad-value"])
    assert "an item of its own" in next(iter(read.report)).text


def test_ids_that_are_several_are_no_value(tmp_path: Path) -> None:
    read = TomlReading(tmp_path, '[defaults]\ndisabled = ["a b"]\n[service.a]\n' + SERVICE)
    assert (read.config.fatal, read.codes) == (True, ["bad-default"])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ('["a\\u0000"]', "a list that holds a string with a NUL character"),
        ('"a\\u0000"', "a string with a NUL character"),
        ('["a", [["b"]]]', "a list that holds a list"),
        ("[{}]", "a list that holds a table"),
        ("[1, 1979-05-27]", "a list that holds a date or time"),
    ],
)
def test_what_no_value_can_be(tmp_path: Path, value: str, kind: str) -> None:
    read = TomlReading(tmp_path, f"[service.a]\n{SERVICE}server_args = {value}\n")
    assert read.codes == ["toml-type"]
    assert next(iter(read.report)).text == f"server_args cannot be {kind}; write arguments"


@pytest.mark.parametrize("name", ['""', '" "'])
def test_a_service_without_a_name(tmp_path: Path, name: str) -> None:
    read = TomlReading(tmp_path, f"[service.{name}]\n" + SERVICE)
    assert read.codes == ["toml-type"]
    assert "cannot be a table without a name" in next(iter(read.report)).text
