"""Services that differ in what their servers are given, and the surroundings of a daemon that starts them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C", "ONE": "1", "TWO": "2", "EMPTY": "", "REMOTE_HOST": "stale"}

HEAD = """defaults
{
    cps = 0 0
    log_type = FILE {log}
    log_on_success = PID HOST
    passenv = ONE TWO PATH
}
"""

SERVICES: dict[str, dict[str, object]] = {
    "plain": {},
    "nobody": {"user": "nobody"},
    "group": {"user": "nobody", "group": "games"},
    "groups": {"user": "nobody", "groups": "yes"},
    "group-and-groups": {"user": "nobody", "group": "games", "groups": "yes"},
    "root-groups": {"user": "root", "groups": "yes"},
    "root-of-group": {"user": "root", "group": "games"},
    "numbers": {"user": "54321", "group": "54322"},
    "number-alone": {"user": "54321"},
    "number-of-a-name": {"user": "65534"},
    "umask": {"umask": "027"},
    "umask-open": {"umask": "0"},
    "nice": {"nice": "7", "user": "nobody"},
    "nice-root": {"nice": "-3"},
    "nice-most": {"nice": "19"},
    "rlimits": {
        "rlimit_as": "400M", "rlimit_cpu": "50", "rlimit_data": "300M", "rlimit_rss": "4096K",
        "rlimit_stack": "4194304", "rlimit_files": "77", "user": "nobody",
    },
    "rlimits-root": {"rlimit_files": "300", "rlimit_stack": "8M", "rlimit_cpu": "UNLIMITED"},
    "rlimit-unlimited": {"rlimit_as": "UNLIMITED", "rlimit_data": "UNLIMITED", "user": "nobody"},
    "env": {"env": "ONE=changed NEW=a=b EMPTY="},
    "env-and-passenv": {"passenv": "PATH TWO", "env": "ADDED=yes"},
    "passenv-empty": {"passenv": ""},
    "passenv-unknown": {"passenv": "PATH NOT_THERE"},
    "passenv-remote": {"passenv": "PATH REMOTE_HOST EMPTY"},
    "quotes": {"more_args": "'a  b' \"c\" \\d $HOME {x}"},
    "keepalive": {"flags": "KEEPALIVE NODELAY REUSE NOLIBWRAP"},
    "no-retry": {"flags": "NORETRY"},
    "instances": {"instances": "3", "per_source": "2"},
    "max-load": {"max_load": "100000"},
    "dual": {"bind": None, "flags": "IPv6"},
    "ipv4": {"bind": None, "flags": "IPv4"},
}  # fmt: skip
"""Name -> attributes. `bind` None is no address; `more_args` are further arguments."""

FILES = (1024, 4096)
"""Soft and hard limit of open files that the daemon is started with."""

GROUPS = 'mount --bind "$0" /etc/group && exec "$@"'
"""An /etc/group for one daemon alone, in which the user nobody is in several groups."""


def surroundings(folder: Path) -> list[str]:
    """The command that a daemon is started with: a limit of open files, and the groups where that is allowed."""
    group = folder / "group"
    group.write_text(Path("/etc/group").read_text() + "first:x:45001:nobody\nsecond:x:45002:root,nobody\n")
    prefix = ["unshare", "--mount", "sh", "-c", GROUPS, str(group)]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        prefix = []
    return ["prlimit", f"--nofile={FILES[0]}:{FILES[1]}", *prefix]
