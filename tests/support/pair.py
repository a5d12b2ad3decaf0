"""Debian's xinetd and fastinetd side by side, on the same configuration text with other ports and files."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support import clients
from support.daemon import Daemon, clear, environment
from support.proc import below, listens, wait_for

START = re.compile(r"\bpid=\d+")
DURATION = re.compile(r"\bduration=\d+\(sec\)")


class Xinetd:
    """The original, in the foreground."""

    def __init__(
        self, program: str, folder: Path, conf: str, ports: Sequence[int], prefix: Sequence[str], env: Mapping[str, str]
    ) -> None:
        path, self.pidfile, self.log = folder / "xinetd.conf", folder / "xinetd.pid", folder / "xinetd.log"
        path.write_text(conf)
        files = ["-f", str(path), "-pidfile", str(self.pidfile), "-filelog", str(self.log)]
        argv = [*prefix, program, "-dontfork", *files]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(env),
            cwd=folder, start_new_session=True,
        )  # fmt: skip
        wait_for(
            lambda: "Started working" in self.said() and all(listens(port) or listens(port, "udp") for port in ports),
            lambda: f"xinetd serves: {self.said()[-2000:]}", 60,
        )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def finish(self) -> None:
        family = set(below(self.process.pid))
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)
        clear(family)


class Side:
    """One of the two: where it listens, where its records go."""

    def __init__(self, name: str, folder: Path, services: Sequence[str]) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(mode=0o777)
        self.folder.chmod(0o777)
        self.log = self.folder / "records"
        self.port = {service: clients.free_port() for service in services}

    def records(self, service: str) -> list[str]:
        """Records of a service without what differs from run to run: time, pids, seconds."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        found = [line.partition(": ")[2] for line in text.splitlines()]
        mine = [line for line in found if re.match(rf"\w+: {re.escape(service)}( |$)", line)]
        return [DURATION.sub("duration=N(sec)", START.sub("pid=N", line)) for line in mine]


class Pair:
    """Both daemons. `entries` are texts with {port}, {log} and {folder} to be filled in for each side."""

    def __init__(
        self, program: str, folder: Path, head: str, entries: Mapping[str, str], *, prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None, options: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.theirs, self.ours = (Side(name, folder, list(entries)) for name in ("xinetd", "fastinetd"))
        self.prefix = list(prefix)
        texts = [self._text(side, head, entries) for side in (self.theirs, self.ours)]
        given = environment() if env is None else dict(env)
        self.xinetd = Xinetd(program, self.theirs.folder, texts[0], list(self.theirs.port.values()), prefix, given)
        self.daemon = Daemon(self.ours.folder, texts[1], options, prefix=prefix, exact_env=given).await_ready()

    @staticmethod
    def _text(side: Side, head: str, entries: Mapping[str, str]) -> str:
        places = {"log": str(side.log), "folder": str(side.folder)}
        parts = [head, *(text.replace("{port}", str(side.port[name])) for name, text in entries.items())]
        text = "".join(parts)
        for name, value in places.items():
            text = text.replace("{" + name + "}", value)
        return text

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.theirs, self.ours

    def finish(self) -> None:
        self.xinetd.finish()
        problems = self.daemon.finish()
        assert not problems, (problems, self.daemon.said()[-2000:])
