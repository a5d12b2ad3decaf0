"""How the inetd.conf of one system differs from that of another: one record for each dialect.

Sources: the inetds of Debian (openbsd-inetd), OpenBSD, FreeBSD, NetBSD, GNU inetutils and busybox.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastinetd.config.model import Family, GroupsOfRoot

_OF_A_LOGIN = (
    "CVS", "DISPLAY=", "EDITOR=", "GROUP=", "HOME=", "IFS=", "LD_", "LOGNAME=", "MAIL=", "PATH=", "PRINTER=", "PWD=",
    "SHELL=", "SHLVL=", "SSH", "TERM", "TMP", "USER=", "VISUAL=",
)  # fmt: skip
"""Beginnings of variables that Debian's inetd removes from its environment when it starts without -E."""

_FOUR_SIX = ("tcp", "tcp4", "tcp6", "udp", "udp4", "udp6")
"""Protocols that most dialects know."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one system's inetd reads its inetd.conf."""

    name: str
    plain: Family  # of `tcp` and `udp`
    six: Family  # of `tcp6` and `udp6`
    protocols: tuple[str, ...]
    limits: str  # characters that may stand between `nowait` and a limit
    children: bool = False  # the limit is /CHILDREN[/PER-MINUTE[/PER-ADDRESS]] and not a rate
    rate: int = 256  # starts per minute when a line has no limit; 0 is none
    addresses: bool = True  # ADDRESS:SERVICE and lines `ADDRESS:`
    numbers: bool = True  # a port may be written as a number
    indented: bool = True  # a line that begins with a blank continues the one before
    backslash: bool = False  # a line that ends in a backslash is continued by the next
    comment_anywhere: bool = False  # `#` begins a comment wherever it stands
    quotes: bool = False  # a word may be quoted with " or '
    policies: bool = False  # lines `#@` are IPsec policies
    relative: bool = False  # a program without a slash is looked for in PATH
    whole_argv0: bool = False  # argv[0] of a line without arguments is the whole path
    root: GroupsOfRoot = GroupsOfRoot.OWN  # what servers of root get as groups
    no_group_of_root: bool = False  # a group that a line names for root is not set
    no_group_root: bool = False  # a group with the number 0 is not set
    scrubbed: tuple[str, ...] = ()  # beginnings of variables of the daemon's environment that servers do not get

    @property
    def limit_syntax(self) -> str:
        """How to write a limit in this dialect, for messages."""
        return "nowait/CHILDREN/PER-MINUTE/PER-ADDRESS" if self.children else f"nowait{self.limits[0]}NUMBER"


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "debian",
            Family.SPLIT,
            Family.IPV6,
            (*_FOUR_SIX, "tcp46", "udp46", "unix"),
            ".",
            root=GroupsOfRoot.DAEMON,
            no_group_of_root=True,
            scrubbed=_OF_A_LOGIN,
        ),
        Dialect("openbsd", Family.IPV4, Family.IPV6, (*_FOUR_SIX, "unix"), ".", root=GroupsOfRoot.DAEMON),
        Dialect(
            "freebsd",
            Family.IPV4,
            Family.IPV6,
            (*_FOUR_SIX, "tcp46", "udp46", "unix"),
            "/",
            children=True,
            addresses=False,
            numbers=False,
            quotes=True,
            policies=True,
        ),
        Dialect(
            "netbsd",
            Family.IPV4,
            Family.IPV6,
            (*_FOUR_SIX, "unix"),
            ":.",
            rate=40,
            quotes=True,
            policies=True,
            root=GroupsOfRoot.KEPT,
        ),
        Dialect(
            "inetutils",
            Family.IPV4,
            Family.IPV6,
            _FOUR_SIX,
            ".",
            rate=1000,
            indented=False,
            quotes=True,
            root=GroupsOfRoot.KEPT,
            no_group_of_root=True,
            no_group_root=True,
        ),
        Dialect(
            "busybox",
            Family.IPV4,
            Family.DUAL,
            ("tcp", "tcp6", "udp", "udp6", "unix"),
            ".",
            rate=0,
            indented=False,
            backslash=True,
            comment_anywhere=True,
            relative=True,
            whole_argv0=True,
        ),
    )
}
