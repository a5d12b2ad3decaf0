"""The command's own parts: --check, what it refuses to start with, the pid file, the metrics listener."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fastinetd.cli import demo
from fastinetd.cli import main as cli
from fastinetd.cli.main import main
from fastinetd.cli.options import Refusal
from fastinetd.plan import plan
from fastinetd.system import allowances
from fastinetd.system.descriptors import FIRST_KEPT_DESCRIPTOR
from support.clients import free_port
from support.daemon import COMMAND

GOOD = f"""service a
{{
type = UNLISTED
socket_type = stream
port = 7000
wait = no
user = {os.geteuid()}
server = /bin/true
}}
"""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration is found by itself, and no rules of tcp wrappers."""
    absent = ((str(tmp_path / "none.toml"), "toml"), (str(tmp_path / "none.conf"), "xinetd"))
    monkeypatch.setattr(cli, "DEFAULT_FILES", absent)
    monkeypatch.setattr(plan, "WRAPPER_FILES", ())


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "x.conf"
    path.write_text(GOOD)
    return path


class TestCheck:
    def test_good(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--check", "-f", str(conf)]) == 0
        assert capsys.readouterr().out == f"{conf}: 1 service can be started, 0 errors\n"

    def test_bad(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        conf.write_text(GOOD.replace("/bin/true", "/no/such") + GOOD.replace("service a", "service b") + "}\n")
        assert main(["--check", "-f", str(conf)]) == 1
        *problems, last = capsys.readouterr().out.splitlines()
        assert last == f"{conf}: 1 service can be started, 2 errors"
        assert [problem.split(": ")[:2] for problem in problems] == [
            [f"{conf}:8:10", "error"], [f"{conf}:19:1", "error"],
        ]  # fmt: skip

    def test_a_warning_is_no_error(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        conf.write_text(GOOD.replace("user", "unheard = of\nuser"))
        assert main(["--check", "-f", str(conf), "-unheard"]) == 0
        said = capsys.readouterr().out
        assert "fastinetd: warning: there is no option -unheard" in said
        assert ": warning: there is no attribute 'unheard'" in said

    def test_inetd(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "inetd.conf"
        path.write_text("7001 stream tcp nowait root /bin/true true\n7002 stream tcp nowait root\n")
        assert main(["--check", "--inetd", str(path)]) == 1
        assert f"{path}:2:" in capsys.readouterr().out

    def test_one_that_is_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--check", "-f", str(tmp_path / "missing.conf")]) == 1
        assert "missing.conf" in capsys.readouterr().out

    def test_a_dialect_for_no_inetd_conf(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        toml, inetd = conf.with_name("x.toml"), conf.with_name("inetd.conf")
        toml.write_text("")
        inetd.write_text("7001 stream tcp nowait root /bin/true true\n")
        for words, told in (
            (["-f", str(conf)], True), (["-f", str(toml)], True), (["--demo"], True), (["-f", str(inetd)], False),
            (["--inetd", str(inetd)], False), (["-f", str(conf), "-inetd_compat"], False),
        ):  # fmt: skip
            main(["--check", "--dialect", "debian", *words])
            assert ("--dialect" in capsys.readouterr().out) is told, words
            main(["--check", *words])
            assert "--dialect" not in capsys.readouterr().out, words

    def test_options_of_an_inetd_conf_for_another_file(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        toml, inetd = conf.with_name("x.toml"), conf.with_name("inetd.conf")
        toml.write_text("")
        inetd.write_text("7001 stream tcp nowait root /bin/true true\n")
        for option, path, told in (
            ("-E", conf, True), ("-E", toml, True), ("-E", inetd, False),
            ("-inetd_compat", conf, False), ("-inetd_compat", toml, True), ("-inetd_compat", inetd, False),
        ):  # fmt: skip
            main(["--check", option, "-f", str(path)])
            assert (f"{option} does nothing" in capsys.readouterr().out) is told, (option, path)

    def test_bad_defaults_start_nothing(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        conf.write_text("defaults\n{\ninstances = many\n}\n" + GOOD)
        assert main(["--check", "-f", str(conf)]) == 1
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"{conf}: 0 services can be started, 1 error; with these errors nothing of it is used"

    def test_what_is_disabled(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        others = [GOOD.replace("service a", f"service {name}") for name in "bcd"]
        others[0] = others[0].replace("user", "disable = yes\nuser")
        conf.write_text("defaults\n{\nenabled = a b c\ndisabled = c\n}\n" + GOOD + "".join(others))
        assert main(["--check", "-f", str(conf)]) == 0
        *notes, last = capsys.readouterr().out.splitlines()
        assert [note.partition(": note: ")[2].partition(";")[0] for note in notes] == [
            "service b is disabled (disable = yes)",
            "service c is disabled by `disabled` of `defaults`",
            "service d is disabled by `enabled` of `defaults`, which does not name it",
        ]
        assert last == f"{conf}: 1 service can be started, 0 errors"

    def test_odd_bytes_are_shown(self, conf: Path, capfd: pytest.CaptureFixture[str]) -> None:
        conf.write_bytes(b"service \xff\x1b[31m\n{\n}\n")
        assert main(["--check", "-f", str(conf)]) == 1
        assert "\\udcff\\x1b[31m has no wait" in capfd.readouterr().out

    def test_each_message_at_its_own_place(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = GOOD.count("\n")
        more = "only_from = 127.0.0. 10.0.0.0/33\nonly_from += 192.0.2.1 10.0.0.*\nbind = no-such-host.invalid\n"
        conf.write_text(GOOD.rstrip()[:-1] + more + "log_type = SYSLOG dameon\n}\n")
        main(["--check", "-f", str(conf)])
        *found, _ = (text.split(":")[1:3] for text in capsys.readouterr().out.splitlines())
        assert found == [[str(line), "13"], [str(line), "22"], [str(line + 1), "24"], [str(line + 2), "8"],
                         [str(line + 3), "19"]]

    def test_demo(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--check", "--demo"]) == 0
        assert "3 services can be started" in capsys.readouterr().out


def test_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says where it looked and what to do."""
    for words in (["--check"], ["--foreground"]):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "none.toml" in said
        assert "none.conf" in said
        assert "--demo" in said


def test_the_first_place_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.conf").write_text(GOOD)
    assert main(["--check"]) == 0
    assert f"{tmp_path}/none.conf: 1 service" in capsys.readouterr().out
    (tmp_path / "none.toml").write_text("")
    assert main(["--check", "-stayalive"]) == 0
    assert f"{tmp_path}/none.toml: 0 services" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", GOOD.replace("user", "disable = yes\nuser")], ids=["empty", "disabled"])
def test_without_services_it_says_what_a_start_would(text: str, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with the same status: a unit's ExecStartPre, or a script, relies on it."""
    conf.write_text(text)
    pidfile = ["-pidfile", f"{conf}.pid"]
    checked = main(["--check", "-f", str(conf)])
    assert "-stayalive" in capsys.readouterr().out.splitlines()[-1]
    started = subprocess.run([COMMAND, "-f", str(conf), *pidfile], capture_output=True, text=True, check=False)
    assert "-stayalive" in started.stderr
    assert (checked, started.returncode) == (1, 1)
    for word in ("-stayalive", "-dontfork"):
        assert main(["--check", word, "-f", str(conf)]) == 0
        assert "-stayalive" not in capsys.readouterr().out


def test_unknown_facility(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-f", str(conf), "-dontfork", "-syslog", "nobody"]) == 1
    said = capsys.readouterr().err
    assert "'nobody'" in said
    assert "daemon" in said


class TestMetrics:
    @pytest.mark.parametrize("host", ["127.0.0.1", ""])
    def test_listens(self, host: str) -> None:
        with cli._listen_for_metrics(f"{host}:{free_port()}") as made:
            assert made.fileno() >= FIRST_KEPT_DESCRIPTOR
            assert not os.get_blocking(made.fileno())
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            socket.create_connection(("127.0.0.1", made.getsockname()[1]), 10).close()

    @pytest.mark.parametrize("text", ["9100x", "x:y", "no-such-host.invalid:1", "127.0.0.1:99999", "", ":0"])
    def test_refuses(self, text: str) -> None:
        with pytest.raises(Refusal, match="--metrics"):
            cli._listen_for_metrics(text)

    def test_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(Refusal, match=r"cannot listen: Address already in use \(EADDRINUSE\); choose"):
                cli._listen_for_metrics(f"127.0.0.1:{port}")


def test_more_descriptors() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        allowances.raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class TestDemo:
    def test_what_it_serves(self) -> None:
        config = demo.make_configuration()
        assert [service.id for service in config.services] == ["echo", "daytime", "hello"]
        ports = [service.port for service in config.services]
        assert len({*ports}) == 3
        assert all(port is not None and port >= demo.FIRST_PORT for port in ports)
        assert all(service.bind == (demo.HOST,) for service in config.services)

    def test_goes_out_of_the_way(self) -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((demo.HOST, demo.make_configuration().services[0].port))
            other.listen()
            taken = other.getsockname()[1]
            assert taken not in [service.port for service in demo.make_configuration().services]

    @pytest.mark.parametrize("netcat", ["/no/bin/nc.openbsd", "/no/bin/nc.traditional", None])
    def test_a_line_to_paste_for_each(self, monkeypatch: pytest.MonkeyPatch, netcat: str | None) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: netcat)
        config = demo.make_configuration()
        text = demo.instructions(config, ("::", 9100))
        for service in config.services:
            (line,) = (line for line in text.splitlines() if line.startswith(f"  {service.id}"))
            assert demo.HOST in line
            assert str(service.port) in line
            assert ("nc " in line) is (netcat == "/no/bin/nc.openbsd")
        assert f"http://{demo.HOST}:9100/metrics" in text
        assert "metrics" not in demo.instructions(config, None)
        assert "http://[::1]:9100/" in demo.instructions(config, ("::1", 9100))


def test_what_cannot_be_written_is_one_line(conf: Path) -> None:
    """A full disk, and a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full", "wb") as full, open(write, "wb") as closed:  # noqa: PTH123
        for out, reason in ((full, "No space left on device"), (closed, "Broken pipe")):
            argv = [COMMAND, "--check", "-f", str(conf)]
            run = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
            assert (run.returncode, run.stderr.count("\n")) == (1, 1), run.stderr
            assert reason in run.stderr


def test_names_that_the_output_cannot_have(conf: Path) -> None:
    conf.write_text(GOOD.replace("7000", "\u00e9"))
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    argv = [sys.executable, "-P", "-m", "fastinetd", "--check", "-f", str(conf)]
    run = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    assert "port cannot be '\\xe9'" in run.stdout, run.stderr


OTHER_LOOK = """
import sys
from fastinetd.cli import main, options
from fastinetd.logs.format import MessageFormat
from fastinetd.logs.xinetd_format import XinetdFormats

class Bare(MessageFormat):
    def message(self, when, level, text):
        return f"{level.name} | {text}\\n"

    def lost(self, when, count):
        return f"{count} lost\\n"

class BareFormats(XinetdFormats):
    def stderr(self, journald):
        return Bare()

options.XinetdFormats = BareFormats
sys.exit(main.main(sys.argv[1:]))
"""


def test_the_options_choose_the_look_of_the_log(conf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = f"127.0.0.1:{taken.getsockname()[1]}"
        argv = [sys.executable, "-c", OTHER_LOOK, "-dontfork", "-f", str(conf), "--metrics", metrics]
        run = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"CRITICAL | --metrics {metrics}: cannot listen: " in run.stderr
