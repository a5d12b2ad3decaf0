"""The command line: fastinetd's long options, and those of xinetd with one dash."""

from __future__ import annotations

import argparse
from ipaddress import AddressValueError, IPv6Address

from fastinetd import __version__
from fastinetd.config.dialects import DIALECTS
from fastinetd.logs.journald import stream_line
from fastinetd.logs.lines import Level
from fastinetd.logs.xinetd_format import XinetdFormats

DEFAULT_FILES = (
    ("/etc/fastinetd/fastinetd.toml", "toml"),
    ("/etc/xinetd.conf", "xinetd"),
    ("/etc/inetd.conf", "inetd"),
)
"""Paths of a configuration, in the order in which they are looked for, and their kinds."""

INETD_CONF = "/etc/inetd.conf"
"""The path of --inetd and -inetd_compat."""


class Refusal(Exception):
    """Raised when the command cannot do what it is asked; the text has the reason and the remedy."""


class _Parser(argparse.ArgumentParser):
    """A parser that ends with status 1 and one line for a usage error, as xinetd does."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print a usage error and end with status 1."""
        self.exit(1, stream_line(2, Level.CRITICAL, f"{self.prog}: {message}; see {self.prog} --help\n"))

    def _get_option_tuples(self, option_string: str) -> list[tuple[argparse.Action, str, str | None]]:
        """No abbreviations of options: argparse would take -fork for -f ork, and -pid for -pidfile."""
        return []

    @property
    def option_strings(self) -> frozenset[str]:
        """Every spelling of every option."""
        return frozenset(self._option_string_actions)


def make_parser() -> _Parser:
    """The parser of all options; those with one dash are xinetd's."""
    p = _Parser(
        prog="fastinetd",
        allow_abbrev=False,
        description="A super-server: listens for many services and starts the right program for each connection.",
        epilog=f"Without -f or --inetd the first of these is read: {', '.join(path for path, _ in DEFAULT_FILES)}.",
    )
    source = p.add_argument_group("configuration")
    one = source.add_mutually_exclusive_group()
    one.add_argument("-f", "--file", metavar="FILE", type=_word,
                     help="configuration: TOML by its ending .toml, an inetd.conf by its name, else xinetd.conf")
    one.add_argument("--inetd", metavar="FILE", type=_word, nargs="?", const=INETD_CONF,
                     help=f"read an inetd.conf (default {INETD_CONF})")
    source.add_argument("--dialect", metavar="NAME", choices=sorted(DIALECTS),
                        help=f"of inetd.conf: {', '.join(sorted(DIALECTS))} (default debian)")
    source.add_argument("-E", "--keep-environment", dest="keep_environment", action="store_true",
                        help="servers get the daemon's whole environment where Debian's inetd.conf means a part of it")
    source.add_argument("-inetd_compat", "--inetd-compat", dest="inetd_compat", action="store_true",
                        help=f"read {INETD_CONF} after an xinetd.conf")
    source.add_argument("--check", action="store_true",
                        help="say what is wrong with the configuration, start nothing; "
                             "the exit status is 1 if there is an error, or no service and neither -stayalive nor "
                             "-dontfork, else 0")
    one.add_argument("--demo", action="store_true", help="serve three services on loopback, to try it out")
    life = p.add_argument_group("process")
    life.add_argument("-d", "--debug", action="store_true", help="stay in the foreground and say more")
    life.add_argument("-dontfork", "--foreground", dest="foreground", action="store_true",
                      help="stay in the foreground; so it does by itself as process 1, and where NOTIFY_SOCKET is set")
    life.add_argument("-stayalive", "--stay-alive", dest="stay_alive", action="store_true",
                      help="go on without any service; so it does with -dontfork")
    life.add_argument("-pidfile", "--pid-file", dest="pidfile", metavar="FILE", type=_word,
                      help="write the process id there")
    life.add_argument("-limit", "--limit", metavar="N", type=_limit,
                      help="at most so many servers at a time; 0: no limit")
    life.add_argument("--acceptors", metavar="N", type=_acceptors,
                      help="processes that accept connections (default: one more than processors, "
                           "as each sleeps during exec)")
    life.add_argument("-cc", "--consistency-check", dest="check_every", metavar="SECONDS", type=_count, default=0,
                      help="compare the counts with the running servers so often")
    logs = p.add_argument_group("logging and metrics")
    logs.add_argument("-filelog", "--file-log", dest="filelog", metavar="FILE", type=_word,
                      help="the daemon's own messages go there")
    logs.add_argument("-syslog", "--syslog", metavar="FACILITY", type=_word,
                      help="the daemon's own messages go to syslog")
    logs.add_argument("--metrics", metavar="[ADDR]:PORT", type=_word,
                      help="serve Prometheus metrics there; without ADDR on every address")
    logs.add_argument("-logprocs", "--log-procs", "-shutdownprocs", metavar="N", type=_count,
                      help="accepted for xinetd's sake, no effect")
    logs.add_argument("-inetd_ipv6", "--inetd-ipv6", action="store_true",
                      help="accepted for Debian's init script, no effect: lines of inetd.conf say so themselves")
    logs.add_argument("-reuse", "--reuse", action="store_true", help="accepted for xinetd's sake, always on")
    p.set_defaults(formats=XinetdFormats)  # how the log is written: a class of Formats (logs/format.py)
    p.add_argument("-version", "--version", action="version", version=f"fastinetd Version {__version__}")
    return p


def parse_options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and warnings; ends with status 1 for a usage error.

    An unknown option with one dash is a warning: xinetd ignores such, and init scripts have some. One that only lacks
    its second dash is an error: -check must not start a daemon.
    """
    own = make_parser()
    options, rest = own.parse_known_args(arguments)
    warnings = []
    for word in filter(None, rest):  # a quoted variable of an init script may be empty
        if word.startswith("-") and not word.startswith("--"):
            if f"-{word}" in own.option_strings:
                own.error(f"there is no option {word}, write -{word}")
            if word.startswith("-f/"):  # xinetd takes no such spelling; ignored, it would mean another file
                own.error(f"there is no option {word}, write -f {word[2:]}")
            warnings.append(f"there is no option {word}, it is ignored; see fastinetd --help")
        else:
            own.error(f"unexpected argument {word!r}")
    if options.demo:
        given = (("--dialect", options.dialect), ("-E", options.keep_environment),
                 ("-inetd_compat", options.inetd_compat))
        warnings += [f"{name} does nothing with --demo; remove one of the two" for name, value in given if value]
    if options.filelog and options.syslog:
        own.error("-filelog and -syslog exclude each other")
    return options, warnings


def _word(text: str) -> str:
    """A word that is not empty, as argparse converts it: an empty variable must not mean another file or none."""
    if not text:
        raise argparse.ArgumentTypeError("it has an empty word behind it; write one, or leave the option out")
    return text


def _count(text: str) -> int:
    """A number from 0 on, as argparse converts it."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _limit(text: str) -> int | None:
    """A number from 1 on, or None for 0, as argparse converts it."""
    return _count(text) or None


def _acceptors(text: str) -> int:
    """A number from 1 to 32, as argparse converts it."""
    if _count(text) < 1 or _count(text) > 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 32")
    return int(text)


def parse_address(text: str) -> tuple[str | None, int]:
    """Host and port of `--metrics`: `:9100` and `9100` (every address: None), `127.0.0.1:9100`, `[::1]:9100`.

    Raises ValueError, whose text has the expected form.
    """
    host, _, port = text.rpartition(":")
    wrong = ValueError(f"{text!r} is no address of the form [HOST]:PORT, such as :9100 or [::1]:9100")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise wrong
    if host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            raise wrong from None
        return host[1:-1], int(port)
    if any(c in "[]:/@,;" or c.isspace() or not c.isprintable() for c in host):
        raise wrong
    return host or None, int(port)
