"""Rules of xinetd.conf, one by one. The values of attributes are in the golden pairs."""

from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Severity
from fastinetd.config.model import Family, OverRate, Place, Rate
from support.readings import XinetdReading

BODY = {
    "type": "UNLISTED",
    "socket_type": "stream",
    "port": "7000",
    "wait": "no",
    "user": "nobody",
    "server": "/bin/probe",
}


def entry(name: str, *lines: str, **attributes: str | None) -> str:
    body = [f"  {key} = {value}" for key, value in {**BODY, **attributes}.items() if value is not None]
    return "\n".join([f"service {name}", "{", *body, *(f"  {line}" for line in lines), "}", ""])


def defaults(*lines: str) -> str:
    return "\n".join(["defaults", "{", *lines, "}", ""])


def test_a_plain_service(tmp_path: Path) -> None:
    service = XinetdReading(tmp_path, entry("probe", "server_args = -v 1")).only
    path = str(tmp_path / "x.conf")
    assert (service.name, service.id, service.place) == ("probe", "probe", Place(path, 1, 1))
    assert (service.socket_type, service.protocol, service.family) == ("stream", "tcp", Family.AUTO)
    assert service.argv == ("probe", "-v", "1")
    assert (service.instances, service.per_source, service.passenv, service.umask) == (None, None, None, None)
    assert (service.rate, service.over_rate) == (Rate(50, 1.0, 10), OverRate.WAIT)
    assert service.only_from is None
    assert service.place_of("server") == Place(path, 8, 12)
    assert service.place_of("instances") == service.place
    assert set(service.places) == {*BODY, "server_args"}


def test_defaults_reach_services_before_them_and_in_other_files(tmp_path: Path) -> None:
    (tmp_path / "more").write_text(defaults("no_access = 192.0.2.1") + entry("more"))
    read = XinetdReading(tmp_path, entry("early") + "include more\n" + defaults("instances = 3") + entry("late"))
    assert read.ids == ["early", "more", "late"]
    for service in read.config.services:
        assert (service.instances, service.no_access) == (3, ("192.0.2.1",))


def test_value_of_defaults_keeps_its_place(tmp_path: Path) -> None:
    service = XinetdReading(tmp_path, defaults("no_access = host.example") + entry("a")).only
    assert service.place_of("no_access").line == 3


def test_own_value_wins_over_defaults(tmp_path: Path) -> None:
    service = XinetdReading(
        tmp_path, defaults("instances = 3", "cps = 5 5") + entry("a", "instances = UNLIMITED", "cps = 0 1")
    ).only
    assert (service.instances, service.rate) == (None, None)


def test_bad_service_harms_no_other(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a") + entry("bad", "instances = many", "umask = 9") + entry("b"))
    assert read.ids == ["a", "b"]
    assert not read.config.fatal
    assert read.codes == ["bad-value", "bad-value"]
    (broken,) = read.config.broken
    assert (broken.id, broken.user, broken.server) == ("bad", "nobody", "/bin/probe")
    assert broken.place_of("user").line == 16


def test_bad_defaults_are_fatal(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, defaults("only_from = 10.0.0.1,10.0.0.2") + entry("a"))
    assert read.config.fatal
    assert read.codes == ["bad-default"]


def test_every_bad_line_has_a_message(tmp_path: Path) -> None:
    bad = (
        "port = 70000",
        "instances = many",
        "frobnicate = 7",
        "deny_time = soon",
        "access_times = 25:00-26:00",
        "umask = 999",
        "nice = low",
        "server /bin/true",
    )
    read = XinetdReading(tmp_path, entry("a", *bad, port=None, server=None))
    assert read.ids == []
    assert {d.place.line for d in read.report} >= set(range(7, 7 + len(bad)))


def test_enabled_does_not_revive_a_broken_service(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, defaults("enabled = a") + entry("a", "instances = many"))
    assert read.ids == []


def test_disabled_wins_over_enabled_and_goes_by_id(tmp_path: Path) -> None:
    text = defaults("enabled = a x c", "disabled = c") + entry("a") + entry("b", "id = x") + entry("c") + entry("d")
    assert XinetdReading(tmp_path, text).ids == ["a", "x"]


def test_ids_may_be_in_any_case(tmp_path: Path) -> None:
    services = entry("a") + entry("B") + entry("c", "id = Other") + entry("d")
    read = XinetdReading(tmp_path, defaults("disabled = A OTHER") + services)
    assert (read.ids, read.codes) == (["B", "d"], [])
    read = XinetdReading(tmp_path, defaults("enabled = A b") + services)
    assert (read.ids, read.codes) == (["a", "B"], [])


def test_a_comment_behind_ids_is_one_message(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, defaults("disabled = a # b c") + entry("a") + entry("b"))
    assert (read.ids, read.codes, read.at) == (["b"], ["trailing-comment"], [(3, 14)])


def test_disabled_services_are_not_checked(tmp_path: Path) -> None:
    read = XinetdReading(
        tmp_path, defaults("disabled = b") + entry("a", "disable = yes", "umask = 9") + entry("b", "umask = 9")
    )
    assert (read.ids, read.config.broken, read.codes) == ([], (), [])


def test_same_id_twice_is_legal(tmp_path: Path) -> None:
    assert XinetdReading(tmp_path, entry("a") + entry("a", port="7001")).ids == ["a", "a"]


def test_flags_after_server_args(tmp_path: Path) -> None:
    service = XinetdReading(tmp_path, entry("a", "server_args = me x", "flags = NAMEINARGS")).only
    assert service.argv == ("me", "x")


@pytest.mark.parametrize("line", ["instances=5", "instances =5", "instances= 5", "\tinstances\t=\t5", "INSTANCES = 5"])
def test_blanks_and_case(tmp_path: Path, line: str) -> None:
    service = XinetdReading(tmp_path, entry("a", line)).only
    assert service.instances == 5
    assert service.place_of("instances").column == len(line) + 2


def test_values_may_hold_equal_signs(tmp_path: Path) -> None:
    service = XinetdReading(tmp_path, entry("a", "server_args=--x=1 y=2", "env = A== B=1=2")).only
    assert service.argv == ("probe", "--x=1", "y=2")
    assert service.env == (("A", "="), ("B", "1=2"))


def test_crlf_and_no_final_newline(tmp_path: Path) -> None:
    text = (defaults("instances = 4") + entry("a", "server_args = x y")).replace("\n", "\r\n").removesuffix("\r\n")
    service = XinetdReading(tmp_path, text).only
    assert (service.argv, service.instances) == (("probe", "x", "y"), 4)


def test_only_blanks_and_tabs_part_words(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a", "server_args = a\u00a0b c\x0bd", "nice = 5\r").encode() + b"# \xff\n")
    assert read.only.argv == ("probe", "a\u00a0b", "c\x0bd")
    assert read.only.nice == 5


def test_any_bytes_pass_through(tmp_path: Path) -> None:
    service = XinetdReading(tmp_path, entry("a", "server_args = X").encode().replace(b"X", b"\xff\xfe")).only
    assert service.argv[1].encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_byte_order_mark(tmp_path: Path) -> None:
    assert XinetdReading(tmp_path, b"\xef\xbb\xbf" + entry("a").encode()).only.id == "a"


def test_trailing_comment_is_read_as_meant(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a", "per_source = 10  # ten per host", wait="no # stream", disable="no # on"))
    assert read.ids == ["a"]
    assert read.codes == ["trailing-comment"] * 3
    assert read.config.services[0].per_source == 10
    assert read.report.errors == 0


def test_disable_with_a_comment(tmp_path: Path) -> None:
    """In xinetd the line is ignored and the service started: so it is told that it is not."""
    read = XinetdReading(tmp_path, entry("a", "disable = yes # off"))
    assert (read.ids, read.codes, read.at) == ([], ["trailing-comment"], [(9, 17)])


def test_missing_close_brace_costs_only_that_service(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a").replace("}\n", "") + entry("b"))
    assert read.ids == ["b"]
    assert [service.id for service in read.config.broken] == ["a"]


def test_stray_lines_cost_no_service(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, "}\nftp stream tcp nowait root /x x\n{\n a = b\n}\n" + entry("a"))
    assert read.ids == ["a"]
    assert read.codes == ["stray-close", "no-keyword"]


def test_services_named_like_keywords(tmp_path: Path) -> None:
    text = entry("defaults") + entry("service") + entry("{")
    assert XinetdReading(tmp_path, text).ids == ["defaults", "service", "{"]


def test_stray_line_in_defaults_is_left_out(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, defaults("instances 5", "umask = 022") + entry("a"))
    assert (read.codes, read.config.fatal) == (["no-operator"], False)
    assert (read.config.services[0].instances, read.config.services[0].umask) == (None, 0o22)


def test_redirect_and_rpc_are_not_started(tmp_path: Path) -> None:
    read = XinetdReading(
        tmp_path,
        entry("a", "redirect = h 1", server=None)
        + entry("b", type="RPC", port=None)
        + entry("c", "flags = SENSOR")
        + entry("d", type="TCPMUX UNLISTED", port=None),
    )
    assert read.ids == []
    assert read.codes == ["not-started"] * 4


def test_harmless_gaps_are_warned_of_once(tmp_path: Path) -> None:
    read = XinetdReading(
        tmp_path, defaults("banner = /b", "log_on_success = USERID") + entry("a", "libwrap = x") + entry("b")
    )
    assert read.ids == ["a", "b"]
    assert read.codes == ["not-implemented"] * 3
    assert read.report.errors == 0


def test_a_service_that_is_not_started_always_has_an_error(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a", server="/bin/true -x"))
    assert read.ids == []
    assert [d.severity for d in read.report] == [Severity.WARNING, Severity.ERROR]


def test_unix_socket(tmp_path: Path) -> None:
    service = XinetdReading(tmp_path, entry("a", "bind = /run/a", protocol="unix", type=None, port=None)).only
    assert (service.family, service.bind, service.protocol) == (Family.UNIX, ("/run/a",), "unix")
    for line in ("bind = relative", "bind = /run/a"):
        protocol = "unix" if "relative" in line else "tcp"
        assert XinetdReading(tmp_path, entry("a", line, protocol=protocol)).codes == ["bad-value"]


def test_includedir_order_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("b", "a", "B", "x.rpmsave", "y~", ".hidden", "10", "9"):
        (folder / name).write_text(entry(name))
    (folder / "link").symlink_to(tmp_path / "real.conf")
    (tmp_path / "real.conf").write_text(entry("linked"))
    read = XinetdReading(tmp_path, f"includedir {folder}\n")
    assert read.ids == ["10", "9", "B", "a", "b", "linked"]
    assert read.config.files[:3] == (str(tmp_path / "x.conf"), str(folder), str(folder / "10"))


def test_places_in_included_files(tmp_path: Path) -> None:
    (tmp_path / "more").write_text(entry("a", "nice = low"))
    read = XinetdReading(tmp_path, "include more\n")
    assert str(next(iter(read.report)).place) == f"{tmp_path}/more:9:10"


def test_the_same_file_may_be_included_twice(tmp_path: Path) -> None:
    (tmp_path / "more").write_text(entry("a"))
    assert XinetdReading(tmp_path, "include more\ninclude more\n").ids == ["a", "a"]


def test_a_line_with_a_nul_byte_is_not_just_left_out(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a", "only_from = 127.0.0.1\0") + entry("b") + "\0\n" + entry("c"))
    assert (read.ids, read.codes) == (["b", "c"], ["nul-byte", "nul-byte"])


def test_an_attribute_with_a_nul_byte_is_not_missing_too(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a", server="/bin/pro\0be"))
    assert (read.ids, read.codes) == ([], ["nul-byte"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_one_message(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""  # the other writes it by itself
    (tmp_path / "more").write_bytes((mark + entry("a")).encode(encoding))
    read = XinetdReading(tmp_path, "include more\n" + entry("b"))
    assert (read.ids, read.codes) == (["b"], ["cannot-include"])
    assert "UTF-16" in next(iter(read.report)).text


def test_a_line_may_begin_with_a_form_feed(tmp_path: Path) -> None:
    text = entry("a", "\f", "\f\vnice = 5").replace("}", "\f}") + "\f\n\f" + entry("b")
    read = XinetdReading(tmp_path, text)
    assert (read.ids, read.codes) == (["a", "b"], [])
    assert read.config.services[0].nice == 5


def test_a_comment_behind_braces(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a").replace("{", "{ # on").replace("}", "} # off") + entry("b"))
    assert (read.ids, read.codes, read.at) == (["a", "b"], ["text-after-brace"] * 2, [(2, 3), (9, 3)])


def test_an_entry_behind_a_brace(tmp_path: Path) -> None:
    """In xinetd both are lost."""
    read = XinetdReading(tmp_path, entry("a").rstrip("\n") + " " + entry("b", "nice = many") + entry("c"))
    assert (read.ids, read.codes, read.at) == (["a", "c"], ["entry-after-brace", "bad-value"], [(9, 3), (17, 10)])


def test_an_include_in_a_block(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, entry("a", "include more") + entry("b"))
    assert (read.ids, read.codes, read.at) == (["b"], ["include-in-block"], [(9, 3)])


@pytest.mark.parametrize("brace", [")", "}", "{ on", "end", "<", "begin"])
def test_a_wrong_open_brace_is_one_message(tmp_path: Path, brace: str) -> None:
    read = XinetdReading(tmp_path, entry("a").replace("{", brace) + entry("b"))
    assert (read.ids, read.codes, read.at) == (["b"], ["no-open-brace"], [(1, 1)])


@pytest.mark.parametrize("brace", ["(", "end", "} x", "};", "done"])
@pytest.mark.parametrize("after", [entry("b"), ""])
def test_a_wrong_close_brace_is_one_message(tmp_path: Path, brace: str, after: str) -> None:
    read = XinetdReading(tmp_path, entry("a").replace("}", brace) + after)
    assert (read.ids, read.codes, read.at) == (["b"] if after else [], ["no-close-brace"], [(9, 1)])


@pytest.mark.parametrize(("line", "code"), [("; port = 7000", "slash-comment"), ("// port = 7000", "slash-comment"),
                                            ("port\n= 7000", "no-operator")])
def test_a_line_that_cannot_be_used_is_not_missing_too(tmp_path: Path, line: str, code: str) -> None:
    read = XinetdReading(tmp_path, entry("a", line, port=None))
    assert (read.ids, read.codes) == ([], [code])


def test_an_attribute_that_xinetd_does_not_know_does_no_harm(tmp_path: Path) -> None:
    read = XinetdReading(tmp_path, defaults("mdns = maybe") + entry("a", "mdns = maybe"))
    assert (read.ids, read.codes) == (["a"], ["not-implemented"] * 2)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (("only_from = 10.0.0.0/8 ::1", "only_from -= 10.0.0.0"), ("::1",)),
        (("only_from = 10.0.0.1 ::1", "only_from -= 10.0.0.1/32 0:0:0:0:0:0:0:1"), ()),
        (("only_from = Host.Example .Example", "only_from -= host.example .EXAMPLE"), ()),
        (("only_from = 10.0.0.{1,2,3} 9.9.9.9", "only_from -= 10.0.0.2"), ("10.0.0.1/32", "10.0.0.3/32", "9.9.9.9")),
        (("only_from = 10.0.0.{1,2}", "only_from -= 10.0.0.{2,1}"), ()),
        (("only_from = 10.0.0.{1,2}", "only_from -= 10.0.0.3"), ("10.0.0.{1,2}",)),
        (("only_from = 10.0.0.1", "only_from -= 10.0.0.1", "only_from += 10.0.0.1"), ("10.0.0.1",)),
    ],
)
def test_what_is_taken_away_goes_by_its_meaning(tmp_path: Path, lines: tuple[str, ...], left: tuple[str, ...]) -> None:
    service = XinetdReading(tmp_path, entry("a", *lines)).only
    assert service.only_from == left
    assert len(service.spots["only_from"]) == len(left)


def test_the_built_in_tcpmux_has_no_program_to_run(tmp_path: Path) -> None:
    (problem,) = XinetdReading(tmp_path, entry("tcpmux", type="INTERNAL", server=None)).report
    assert problem.text.endswith("so service tcpmux is not started; remove the service")


@pytest.mark.parametrize(("header", "codes", "ids"), [
    ("service\n{", ["no-service-name"], ["a", "c"]),
    ("service {", ["no-service-name", "no-open-brace"], ["a", "c"]),
    ("service [", ["no-service-name", "no-open-brace"], ["a", "c"]),
    ("service {\n{", [], ["a", "{", "c"]),  # as in xinetd
    ("service b {", ["no-open-brace"], ["a", "c"]),
    ("service b x\n{", ["words-behind"], ["a", "b", "c"]),  # as in xinetd
    ("service b # x\n{", [], ["a", "b", "c"]),
    ("service b x {", ["no-open-brace"], ["a", "c"]),
])
def test_a_header_that_says_too_little_or_too_much(
    tmp_path: Path, header: str, codes: list[str], ids: list[str]
) -> None:
    """It costs its own entry, and what is wrong is told at its line, and `{` is no name."""
    read = XinetdReading(tmp_path, entry("a") + entry("b").replace("service b\n{", header) + entry("c"))
    line = entry("a").count("\n") + 1
    assert (read.ids, read.codes) == (ids, codes)
    assert {each.place.line for each in read.report} <= {line}
    assert "service {" not in "".join(each.text for each in read.report)
