"""What Debian's xinetd makes of a configuration: messages, dump and listeners, in namespaces of its own; and what the
Plan makes of it, in the words of the dump."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from fastinetd.config.addresses import rules_of
from fastinetd.control.dump import DumpState, ServiceLine, ServiceState, render_dump
from fastinetd.plan.model import PlannedService

UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private"]

SCRIPT = """
mount -t tmpfs none /run && mount -t tmpfs none /var/log && mount --bind "$1" /etc/services || exit 77
shift
ip link set lo up
xinetd -dontfork -stayalive -filelog /run/log -pidfile /run/pid "$@" >/dev/null 2>&1 &
until grep -q "Started working" /run/log 2>/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
kill -USR1 $! 2>/dev/null
until grep -q "END OF DUMP" /run/xinetd.dump 2>/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
cat /run/log; echo ==PART==
cat /run/xinetd.dump 2>/dev/null; echo ==PART==
ss -ltunH
kill -9 $! 2>/dev/null
"""

FAMILIES = {"IPv4", "IPv6"}
"""Flags that xinetd shows as it has decided, and the dump here as they were written; listeners tell the rest."""

_SHELLS = {f"PWD={Path.cwd()}"}
"""What the shell that starts xinetd adds to its environment."""

Shown = dict[str, object]
"""Attributes of a service by the dump's names; address lists, flags and words without order are sets."""

Listener = tuple[str, int]
"""Address (`*` for all of either family) and port."""


def can_run() -> bool:
    """Whether the original is installed and may have its namespaces."""
    tools = all(map(shutil.which, ("xinetd", "ip", "ss")))
    return tools and os.geteuid() == 0 and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode


@dataclass(frozen=True)
class Original:
    """One run of xinetd."""

    log: str
    services: Mapping[str, list[Shown]]  # by id
    listeners: frozenset[Listener]
    allowed: bool  # the namespaces could be furnished

    @property
    def fatal(self) -> bool:
        return "A fatal error was encountered" in self.log

    @property
    def complaints(self) -> list[str]:
        return re.findall(r"(?:WARNING|ERROR|CRITICAL): (.*)", self.log)


def run_original(
    conf: Path, *, services: Path = Path("/etc/services"), env: Mapping[str, str] | None = None
) -> Original:
    """Let xinetd read `conf`, and ask it what came of it."""
    command = [*UNSHARE, "sh", "-c", SCRIPT, "sh", str(services), "-f", str(conf)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False,
                         env=None if env is None else dict(env))
    log, dump, listening = [*run.stdout.split("==PART==\n"), "", ""][:3]
    return Original(log, parsed(dump), _listeners(listening), run.returncode != 77)


def _listeners(text: str) -> frozenset[Listener]:
    found = set()
    for line in text.splitlines():
        host, _, port = line.split()[4].rpartition(":")
        host = host.strip("[]").partition("%")[0]
        found.add(("*" if host in ("0.0.0.0", "::", "*") else host, int(port)))
    return frozenset(found)


def parsed(dump: str) -> dict[str, list[Shown]]:
    """The services of a dump that are active, by id."""
    found: dict[str, list[Shown]] = {}
    for block in re.split(r"^(?=Service = )", dump, flags=re.MULTILINE)[1:]:
        if not re.search(r"^\tState = (?:Active|Suspended)$", block, re.MULTILINE):
            continue
        shown: Shown = {}
        for line in block.splitlines():
            match = re.match(r"\t\t(Only from|No access|Logging to \w+|[^=:\t]+?)(?: =|:|\. )(.*)$", line)
            if match:
                shown[match[1]] = match[2].strip()
            elif line.strip() == "No logging":
                shown["Logging"] = "none"
        strings = re.search(r"Environment strings:\n((?:\t\t\t.*\n)*)", block)
        if strings:
            shown["environment"] = frozenset(line.strip() for line in strings[1].splitlines()) - _SHELLS
        _settle(shown)
        found.setdefault(str(shown.get("id")), []).append(shown)
    return found


def _settle(shown: Shown) -> None:
    """Make sets of words that have no order, and leave out what only one of the two daemons shows."""
    for name in ("flags", "type", "Log_on_success flags", "Log_on_failure flags"):
        shown[name] = frozenset(str(shown.get(name) or "").split()) - FAMILIES
    # An empty list, which lets nobody in, is shown as `All sites` by xinetd.
    for name, none in (("Only from", "All sites"), ("No access", "No blocked sites")):
        text = str(shown.get(name))
        shown[name] = frozenset() if text == none else addresses(text)
    for name in ("Environment strings", "Environment additions", "Bind", "port"):
        shown.pop(name, None)


def addresses(text: str) -> frozenset[object]:
    """Networks and names of a list in the dump's form: 10.0.0.0(NUMERIC) 10.0.0.0/255.128.0.0(NET) a.b(HOST)."""
    found: set[object] = set()
    for word in text.split():
        entry, _, kind = word.partition("(")
        if kind == "NET)" and ":" in entry:
            address, _, mask = entry.partition("/")
            bits = int.from_bytes(socket.inet_pton(socket.AF_INET6, mask), "big").bit_count()
            entry = f"{address}/{bits}"
        elif kind == "NET)":
            entry = str(ip_network(entry, strict=False))
        found |= {rule for _, rule in rules_of((entry,), lambda name: None)}
    return frozenset(found)


def ours(planned: PlannedService) -> Shown:
    """What the Plan says of a service, in the form of `parsed`."""
    line = ServiceLine(planned.service, ServiceState.ACTIVE, ids=_ids(planned))
    shown = parsed(render_dump(DumpState("0", 0, "", (line,))))[planned.id][0]
    service = planned.service
    for name, entries in (("Only from", service.only_from), ("No access", service.no_access)):
        rules = rules_of(entries or (), lambda name: None)
        shown[name] = frozenset(rule for _, rule in rules)
    shown["environment"] = frozenset(text.decode(errors="replace") for text in planned.exec_context.environ)
    return shown


def _ids(planned: PlannedService) -> tuple[int, int] | None:
    return planned.exec_context.ids or (os.geteuid(), os.getegid())


def listeners_of(planned: PlannedService) -> frozenset[Listener]:
    """Where a planned service listens, in the form of `Original.listeners`."""
    found = set()
    for endpoint in planned.endpoints:
        hosts = {"*"}
        if endpoint.host:
            found_there = socket.getaddrinfo(endpoint.host, None, endpoint.family, endpoint.kind)
            hosts = {str(address[0]) for *_, address in found_there}
        found |= {(host, endpoint.port) for host in hosts}
    return frozenset(found)

