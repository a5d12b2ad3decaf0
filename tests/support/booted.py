"""A container in which this machine's systemd is process 1, to try units as they are used.

Theory. Its files are this machine's, with a layer in memory above them: nothing that happens inside is seen outside. It
has processes and a network of its own, and boots a target that wants next to nothing. The tree of these tests and the
test's folder are in the same places inside and outside, so a unix socket in that folder is reached from both.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.clients import connect
from support.proc import below, wait_for
from support.reach import ROOT

TARGET = "[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\n"
BOOT = """set -e
layer=$1 folder=$2 tree=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755 layer "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" layer "$layer/root"
cp -r "$folder/added/." "$layer/root/"
rm -f "$layer/root/.dockerenv"
exec systemd-nspawn --quiet --directory="$layer/root" --boot --register=no --keep-unit --private-network \\
    --link-journal=no --console=pipe --bind-ro="$tree" --bind="$folder" -- --unit=tests.target
"""
NETWORK = 0x40000000
"""CLONE_NEWNET of setns(2)."""

BOOTING = 60.0


class Booted:
    """A container. `folder` is the test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._output = folder / "console"
        self._leader = 0
        layer, units = folder / "layer", folder / "added/etc/systemd/system"
        layer.mkdir()
        units.mkdir(parents=True)
        (units / "tests.target").write_text(TARGET)
        with self._output.open("wb") as out:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", BOOT, "sh", layer, folder, ROOT],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def why_not(self) -> str:
        """Wait until it has booted; what keeps it from that, if something does."""

        def ended() -> bool:
            return self._process.poll() is not None

        def up() -> bool:
            self._leader = next((pid for pid, each in below(self._process.pid).items() if each.name == "systemd"), 0)
            return bool(self._leader) and self.systemctl("is-active", "tests.target").returncode == 0

        wait_for(lambda: ended() or up(), lambda: f"booted: {self._output.read_text()}", BOOTING)
        return self._output.read_text(errors="replace").strip() or "no reason given" if ended() else ""

    def run(self, *argv: str, feed: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the container, with `feed` as its input."""
        inside = ["nsenter", "--target", str(self._leader), "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return subprocess.run([*inside, *argv], input=feed, capture_output=True, text=True, check=False, timeout=120)

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", "--no-pager", *words)

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--property", name, "--value", unit).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file in the container; one of this machine at the same path stays as it is."""
        done = self.run("sh", "-c", 'mkdir -p "${1%/*}" && rm -f "$1" && cat >"$1"', "sh", path, feed=text)
        assert done.returncode == 0, done.stderr

    def processes_of(self, unit: str) -> list[int]:
        """The processes of a unit, by their pids in the container."""
        script = 'find /sys/fs/cgroup -path "*/$1/cgroup.procs" -exec cat {} + | sort -nu'
        return list(map(int, self.run("sh", "-c", script, "sh", unit).stdout.split()))

    def connect(self, port: int) -> socket.socket:
        """A client in the container's network."""
        with ThreadPoolExecutor(1) as thread:  # a network is a thread's
            return thread.submit(self._connect, port).result()

    def _connect(self, port: int) -> socket.socket:
        network = os.open(f"/proc/{self._leader}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(network, NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(network)
        return connect(port)

    def close(self) -> None:
        """End the container at once."""
        if self._leader:
            os.kill(self._leader, signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)
