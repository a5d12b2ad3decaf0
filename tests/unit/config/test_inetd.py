"""Rules of inetd.conf, mostly in the dialect of Debian."""

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.dialects import DIALECTS
from fastinetd.config.inetd import read_inetd
from fastinetd.config.model import Config, Family, Place, Rate, Service


def reading(text: str, dialect: str = "debian") -> tuple[Config, list[str]]:
    report = Report()
    config = read_inetd(text, "inetd.conf", dialect, report)
    return config, [d.code for d in report]


def only(text: str, dialect: str = "debian") -> Service:
    config, codes = reading(text, dialect)
    assert codes == []
    (service,) = config.services
    return service


def line(
    service: str = "ftp", kind: str = "stream", protocol: str = "tcp", wait: str = "nowait", rest: str = "root /x x"
) -> str:
    return f"{service} {kind} {protocol} {wait} {rest}\n"


def test_a_plain_line() -> None:
    service = only("ftp\tstream\ttcp\tnowait\tnews.mail  /usr/sbin/ftpd\tother -l\n")
    assert (service.name, service.id, service.port, service.types) == ("ftp", "ftp", None, frozenset())
    assert (service.socket_type, service.protocol, service.wait) == ("stream", "tcp", False)
    assert (service.user, service.group, service.groups, service.umask) == ("news", "mail", True, None)
    assert (service.server, service.argv) == ("/usr/sbin/ftpd", ("other", "-l"))
    assert service.rate == Rate(256, 60.0, 600)
    assert service.place == Place("inetd.conf", 1, 1)
    assert service.place_of("server").column == 34
    assert service.place_of("server_args").column == 49


@pytest.mark.parametrize(
    ("dialect", "user", "group", "codes"),
    [
        ("debian", "root:mail", "0", ["inetd-group"]), ("debian", "root:root", "0", []), ("debian", "news:0", "0", []),
        ("openbsd", "root:mail", "mail", []), ("netbsd", "root:mail", "mail", []), ("freebsd", "root:mail", "mail", []),
        ("inetutils", "root:mail", None, ["inetd-group"]), ("inetutils", "news:root", None, []),
        ("inetutils", "news:mail", "mail", []), ("busybox", "0.mail", "mail", []),
    ],
)  # fmt: skip
def test_groups_that_are_not_set(dialect: str, user: str, group: str | None, codes: list[str]) -> None:
    config, found = reading(line(rest=f"{user} /x x"), dialect)
    assert (config.services[0].group, found) == (group, codes)
    assert config.services[0].groups_of_root is DIALECTS[dialect].root


def test_what_debian_keeps_from_servers() -> None:
    assert {"PATH=", "HOME=", "LD_"} < {*only(line()).scrubbed}
    text = line(rest="root:mail /x x")
    (kept,) = read_inetd(text, "inetd.conf", "debian", Report(), keep_environment=True).services
    assert (kept.scrubbed, kept.group) == ((), "0")
    (beside,) = read_inetd(text, "inetd.conf", "debian", Report(), as_xinetd=True).services
    assert (beside.scrubbed, beside.group, beside.groups_of_root) == ((), "mail", None)


def test_no_arguments() -> None:
    assert only(line(rest="root /usr/sbin/ftpd")).argv == ("ftpd",)
    assert only(line(rest="root /usr/sbin/ftpd"), "busybox").argv == ("/usr/sbin/ftpd",)


def test_a_program_without_a_name() -> None:
    for dialect in ("debian", "busybox"):
        assert reading(line(rest="root ;spawn=worker"), dialect)[1] == ["inetd-server"]


@pytest.mark.parametrize(
    ("protocol", "dialect", "family"),
    [
        ("tcp", "debian", Family.SPLIT),
        ("tcp", "openbsd", Family.IPV4),
        ("tcp", "freebsd", Family.IPV4),
        ("tcp", "busybox", Family.IPV4),
        ("tcp4", "debian", Family.IPV4),
        ("tcp6", "debian", Family.IPV6),
        ("tcp6", "busybox", Family.DUAL),
        ("tcp46", "debian", Family.DUAL),
        ("tcp46", "freebsd", Family.DUAL),
    ],
)
def test_families(protocol: str, dialect: str, family: Family) -> None:
    assert only(line(protocol=protocol), dialect).family is family


@pytest.mark.parametrize(
    ("service", "protocol", "bind", "family"),
    [
        ("*:ftp", "tcp", (), Family.SPLIT),
        (":ftp", "tcp", (), Family.SPLIT),
        ("127.0.0.1:ftp", "tcp", ("127.0.0.1",), Family.IPV4),
        ("[::1]:ftp", "tcp", ("::1",), Family.IPV6),
        ("::1:ftp", "tcp", ("::1",), Family.IPV6),
        ("[::1]:ftp", "tcp6", ("::1",), Family.IPV6),
        ("127.0.0.1,[::1]:ftp", "tcp", ("127.0.0.1", "::1"), Family.SPLIT),
        ("localhost:ftp", "tcp", ("localhost",), Family.SPLIT),
        ("127.0.0.1:ftp", "tcp46", ("127.0.0.1",), Family.IPV4),
        ("127.0.0.1,*:ftp", "tcp4", (), Family.IPV4),
    ],
)
def test_addresses(service: str, protocol: str, bind: tuple[str, ...], family: Family) -> None:
    found = only(line(service, protocol=protocol))
    assert (found.name, found.bind, found.family) == ("ftp", bind, family)


def test_default_address() -> None:
    config, codes = reading("127.0.0.1:\n" + line() + line("192.0.2.1:ssh") + "*:\n" + line("www"))
    assert codes == []
    assert [service.bind for service in config.services] == [("127.0.0.1",), ("192.0.2.1",), ()]


def test_ports() -> None:
    service = only(line("192.0.2.1:8080"))
    assert (service.name, service.id, service.port, service.unlisted) == ("8080", "8080", 8080, True)


def test_ids_differ() -> None:
    text = line("8080") + line("8080", "dgram", "udp", "wait") + line("192.0.2.1:8080") + line("192.0.2.2:8080")
    assert [service.id for service in reading(text)[0].services] == ["8080", "8080-udp", "8080-tcp", "8080-2"]


def test_comments_and_continuation() -> None:
    text = (
        "#<off># a\n#b\n" + line() + "\t-l\n \n  -v\n# c\n" + " " + line("ssh") + "\nwww stream tcp nowait\n root /x\n"
    )
    config, codes = reading(text)
    assert codes == []
    assert [(service.name, service.argv) for service in config.services] == [
        ("ftp", ("x", "-l", "-v")),
        ("ssh", ("x",)),
        ("www", ("x",)),
    ]
    assert config.services[0].place.line == 3


def test_hash_inside_a_line() -> None:
    assert only(line(rest="root /x x #y")).argv == ("x", "#y")
    assert only(line(rest="root /x x #y"), "busybox").argv == ("x",)


def test_backslash() -> None:
    assert only("ftp stream tcp \\\nnowait root /x\n", "busybox").argv == ("/x",)


def test_quotes() -> None:
    assert only(line(rest='root /x x "a b"'), "freebsd").argv == ("x", "a b")
    assert only(line(rest='root /x x "a b"')).argv == ("x", '"a', 'b"')


@pytest.mark.parametrize(
    ("wait", "dialect", "rate"),
    [
        ("nowait.25", "debian", Rate(25, 60.0, 600)),
        ("wait.25", "debian", Rate(25, 60.0, 600)),
        ("nowait", "netbsd", Rate(40, 60.0, 600)),
        ("nowait:7", "netbsd", Rate(7, 60.0, 600)),
        ("nowait.7", "netbsd", Rate(7, 60.0, 600)),
        ("nowait", "busybox", None),
    ],
)
def test_rates(wait: str, dialect: str, rate: Rate | None) -> None:
    service = only(line(wait=wait), dialect)
    assert (service.rate, service.wait) == (rate, wait.startswith("wait"))


def test_foreign_limits_are_taken_with_a_warning() -> None:
    config, codes = reading(line(wait="nowait:600") + line("ssh", wait="nowait/3/0/2"))
    assert codes == ["inetd-foreign", "inetd-foreign"]
    assert config.services[0].rate == Rate(600, 60.0, 600)
    assert (config.services[1].instances, config.services[1].per_source) == (3, 2)


def test_freebsd_limits() -> None:
    service = only(line(wait="nowait/0/0/2"), "freebsd")
    assert (service.instances, service.per_source) == (None, 2)


def test_buffers() -> None:
    service = only(line(protocol="tcp,rcvbuf=1k,sndbuf=2m"))
    assert (service.receive_buffer, service.send_buffer) == (1024, 2 * 1024 * 1024)


def test_unix_sockets() -> None:
    service = only(line("/run/x", protocol="unix"))
    assert (service.id, service.bind, service.family, service.protocol) == ("/run/x", ("/run/x",), Family.UNIX, "unix")
    service = only(line(":u:g:0660:/run/x", protocol="unix"), "freebsd")
    assert (service.bind, service.socket_user, service.socket_group, service.socket_mode) == (
        ("/run/x",),
        "u",
        "g",
        0o660,
    )


def test_default_address_is_not_for_unix_sockets() -> None:
    config, _ = reading("127.0.0.1:\n" + line("/run/x", protocol="unix"))
    assert config.services[0].bind == ("/run/x",)


def test_internal() -> None:
    service = only(line("echo", "dgram", "udp", "wait", "root internal"))
    assert (service.internal, service.server, service.argv, service.wait) == (True, None, (), True)
    service = only(line("/run/echo", protocol="unix", rest="root internal"))
    assert (service.name, service.id, service.bind) == ("echo", "/run/echo", ("/run/echo",))


def test_datagrams_are_always_served_as_wait() -> None:
    config, codes = reading(line("tftp", "dgram", "udp"))
    assert (codes, config.services[0].wait) == (["inetd-dgram-nowait"], True)


@pytest.mark.parametrize("user", ["a:b", "a.b"])
def test_groups(user: str) -> None:
    service = only(line(rest=f"{user} /x"))
    assert (service.user, service.group) == ("a", "b")


def test_a_bad_line_harms_no_other() -> None:
    config, codes = reading(line() + "bad\n" + line("ssh"))
    assert ([service.id for service in config.services], codes) == (["ftp", "ssh"], ["inetd-fields"])
    assert not config.fatal


def test_crlf() -> None:
    assert only(line().replace("\n", "\r\n")).argv == ("x",)


def test_every_dialect_reads_the_common_line() -> None:
    for dialect in DIALECTS:
        assert only(line(), dialect).argv == ("x",)


@pytest.mark.parametrize("host", ["127.0.0.300", "127.0.0.1,10.0.0.", "[fe80:::1]", "10.0.0.0/33"])
@pytest.mark.parametrize("dialect", [name for name, rules in DIALECTS.items() if rules.addresses])
def test_no_address_to_listen_on(host: str, dialect: str) -> None:
    for text in (line(f"{host}:ftp"), f"{host}:\n"):
        assert reading(text, dialect) == (Config("inetd.conf", ()), ["inetd-address"])


@pytest.mark.parametrize(
    ("wait", "dialect", "advice"),
    [
        ("wait/8", "debian", "write wait alone, or read the file with --dialect freebsd"),
        ("nowait/8", "debian", "write nowait alone, or read the file with --dialect freebsd"),
        ("wait:8", "debian", "write wait.NUMBER"),
        ("wait.8", "freebsd", "write wait alone, or read the file with --dialect debian"),
        ("wait/x", "freebsd", "write wait/CHILDREN/PER-MINUTE/PER-ADDRESS"),
        ("wait.x", "netbsd", "write wait:NUMBER"),
    ],
)
def test_advice_for_a_foreign_limit(wait: str, dialect: str, advice: str) -> None:
    report = Report()
    read_inetd(line(wait=wait), "inetd.conf", dialect, report)
    (found,) = report
    assert found.text.endswith(advice)
