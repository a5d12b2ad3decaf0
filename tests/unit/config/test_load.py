"""Which reader a file gets, relative paths, and inetd.conf beside xinetd.conf."""

import os
from pathlib import Path
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import guess_kind, load_config
from fastinetd.config.model import Config, Rate

XINETD = "service a\n{\n type = UNLISTED\n socket_type = stream\n wait = no\n port = 1\n user = root\n server = /x\n}\n"
INETD = "ftp stream tcp nowait root /x x\n"


def read(path: Path, **options: Any) -> Config:
    report = Report()
    config = load_config(str(path), report=report, **options)
    assert [str(d) for d in report] == []
    return config


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("fastinetd.toml", "", "toml"),
        ("xinetd.conf", "", "xinetd"),
        ("xinetd.conf", INETD, "xinetd"),
        ("inetd.conf", INETD, "inetd"),
        ("inetd.conf", "", "inetd"),
        ("my-inetd.conf", "# x\n\n" + INETD, "inetd"),
        ("inetd.conf", "# x\n" + XINETD, "xinetd"),
        ("inetd.conf", "Defaults\n{\n}\n", "xinetd"),
        ("anything", INETD, "xinetd"),
    ],
)
def test_guess(name: str, text: str, kind: str) -> None:
    assert guess_kind(f"/etc/{name}", text) == kind


def test_auto_reads_all_three(tmp_path: Path) -> None:
    toml = '[service.t]\nsocket_type="stream"\nwait=false\nuser="x"\nserver="/x"\n'
    for name, text, service in (("x.conf", XINETD, "a"), ("inetd.conf", INETD, "ftp"), ("x.toml", toml, "t")):
        (tmp_path / name).write_text(text)
        assert [s.id for s in read(tmp_path / name).services] == [service]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.conf").write_text("include near\ninclude far\n")
    (tmp_path / "sub" / "near").write_text(XINETD)
    (tmp_path / "near").write_text("")
    (tmp_path / "far").write_text(XINETD)
    monkeypatch.chdir(tmp_path)
    assert [service.place.file for service in read(Path("sub/x.conf")).services] == ["sub/near", "far"]


def test_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    (tmp_path / "x.conf").write_text(f"include {tmp_path}/d/pipe\nincludedir d\n")
    report = Report()
    load_config(str(tmp_path / "x.conf"), report=report)
    assert [d.code for d in report] == ["cannot-include", "not-a-file"]


def test_defaults_of_included_files(tmp_path: Path) -> None:
    """They are one: lists add up, and the first of single values counts, as in xinetd."""
    (tmp_path / "more").write_text("defaults\n{\nonly_from = 10.0.0.9\ninstances = 9\nper_source = 4\n}\n")
    text = "defaults\n{\nonly_from = 10.0.0.1\ninstances = 3\n}\ninclude more\n"
    (tmp_path / "x.conf").write_text(text + XINETD)
    report = Report()
    (service,) = load_config(str(tmp_path / "x.conf"), report=report).services
    assert (service.only_from, service.instances, service.per_source) == (("10.0.0.1", "10.0.0.9"), 3, 4)
    assert [(d.code, d.place.file, d.place.line) for d in report] == [("already-set", str(tmp_path / "more"), 4)]


def test_inetd_compat(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text("defaults\n{\n no_access = 192.0.2.1\n cps = 9 9\n disabled = off\n}\n" + XINETD)
    (tmp_path / "inetd.conf").write_text(INETD + "off stream tcp nowait root /x\n")
    config = read(tmp_path / "x.conf", inetd_compat=str(tmp_path / "inetd.conf"))
    assert [service.id for service in config.services] == ["a", "ftp"]
    assert config.services[1].no_access == ("192.0.2.1",)
    assert config.services[1].rate == Rate(9, 1.0, 9)
    assert config.services[1].place_of("no_access").line == 3
    assert config.files == (str(tmp_path / "x.conf"), str(tmp_path / "inetd.conf"))


def test_inetd_compat_and_pools(tmp_path: Path) -> None:
    """A line of inetd.conf that names its way to be started keeps it, even when it is the usual one."""
    (tmp_path / "x.conf").write_text("defaults\n{\nspawn = zygote\nmin_spare = 7\n}\n")
    programs = ("/x", "/x;spawn=exec", "/x;spawn=prefork;min_spare=2;max_spare=3")
    lines = (f"{port} stream tcp nowait root {program}\n" for port, program in enumerate(programs, 7000))
    (tmp_path / "inetd.conf").write_text("".join(lines))
    config = read(tmp_path / "x.conf", inetd_compat=str(tmp_path / "inetd.conf"))
    found = [(service.spawn, service.min_spare, service.max_spare) for service in config.services]
    assert found == [("zygote", 7, 32), ("exec", 7, 32), ("prefork", 2, 3)]


def test_inetd_compat_and_bind(tmp_path: Path) -> None:
    """The addresses of `defaults` are those of every line without its own."""
    (tmp_path / "x.conf").write_text("defaults\n{\nbind = 127.0.0.2\n}\n")
    lines = ("7000", "127.0.0.3:7001", "*:7002")
    (tmp_path / "inetd.conf").write_text("".join(f"{each} stream tcp nowait root /x\n" for each in lines))
    config = read(tmp_path / "x.conf", inetd_compat=str(tmp_path / "inetd.conf"))
    assert [service.bind for service in config.services] == [("127.0.0.2",), ("127.0.0.3",), ("127.0.0.2",)]


def test_inetd_compat_without_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text(XINETD)
    assert len(read(tmp_path / "x.conf", inetd_compat=str(tmp_path / "none")).services) == 1
