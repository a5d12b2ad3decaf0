"""Listeners on unix sockets: permissions, and the file that goes with the socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastinetd.plan.model import Endpoint, SocketOptions
from support.listening import Kit, request


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.listeners.close()
    assert made.loop.pending() == []


class TestUnix:
    def unix(self, path: Path) -> Endpoint:
        return Endpoint(socket.AF_UNIX, socket.SOCK_STREAM, str(path))

    def test_other_permissions_while_it_is_open(self, kit: Kit, tmp_path: Path) -> None:
        """A reload may change owner and mode; queued clients stay. Another's file in its place is left alone."""
        path = tmp_path / "s"
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o600))])
        (sock,) = kit.listeners.sockets_of(self.unix(path))
        assert path.stat().st_mode & 0o7777 == 0o600
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o640))])
        assert path.stat().st_mode & 0o7777 == 0o640
        kit.listeners.want([request(self.unix(path))])
        assert path.stat().st_mode & 0o7777 == 0o666
        assert kit.listeners.sockets_of(self.unix(path)) == [sock]
        if os.geteuid() == 0:
            kit.listeners.want([request(self.unix(path), SocketOptions(owner=65534, group=65533))])
            assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
            kit.listeners.want([request(self.unix(path))])
            assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), os.getegid())
        path.unlink()
        path.write_text("")
        path.chmod(0o604)
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o600))])
        assert path.stat().st_mode & 0o7777 == 0o604
        path.unlink()
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o640))])
        ((level, text),) = kit.said.take()
        assert (level, "cannot change the owner and mode" in text) == ("error", True)

    def test_its_file_goes_with_it(self, kit: Kit, tmp_path: Path) -> None:
        path = tmp_path / "s"
        kit.listeners.want([request(self.unix(path))])
        assert path.is_socket()
        kit.listeners.drop([self.unix(path)])
        assert not path.exists()

    def test_what_stands_there_instead_stays(self, kit: Kit, tmp_path: Path) -> None:
        """Somebody has put something else in its place: that is theirs."""
        path = tmp_path / "s"
        kit.listeners.want([request(self.unix(path))])
        path.rename(tmp_path / "moved")
        path.write_text("theirs")
        kit.listeners.drop([self.unix(path)])
        assert path.read_text() == "theirs"

    def test_a_path_in_use_is_not_called_a_port(self, kit: Kit, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("theirs")
        kit.listeners.want([request(self.unix(path))])
        ((_, text),) = kit.said.take()
        assert "EADDRINUSE" in text
        assert "another path" in text
        assert "another port" not in text

    def test_a_missing_folder_may_come_later(self, kit: Kit, tmp_path: Path) -> None:
        path = tmp_path / "later" / "s"
        kit.listeners.want([request(self.unix(path))])
        ((_, text),) = kit.said.take()
        assert "ENOENT" in text
        assert "mend the path and the permissions of its folder" in text
        path.parent.mkdir()
        kit.loop.ring()
        assert path.is_socket()
        assert kit.opened_late == 1
