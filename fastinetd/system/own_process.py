"""The name and the executable file of this process, by which ps(1) and start-stop-daemon(8) find it.

The command's executable file (cli/launcher.c) has the interpreter in it, if Python's library is a shared one. Otherwise
it executes the interpreter, and passes its name as an option of Python: `-X fastinetd=NAME`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

_OPTION = "fastinetd"
"""The -X option of Python that has the name of the command."""


def name_of_process() -> str:
    """The name under which the command was started: `fastinetd`, or that of a link to it, such as `xinetd`."""
    passed = sys._xoptions.get(_OPTION)
    if isinstance(passed, str):
        return passed
    name = Path("/proc/self/comm").read_text().rstrip("\n")
    return "fastinetd" if name.startswith(("python", "fastinetd:")) else name


def shortcomings() -> list[str]:
    """A warning that this process has the interpreter's executable file, with the remedy; [] if it has its own."""
    if _OPTION not in sys._xoptions:
        return []
    interpreter = os.path.realpath(sys.executable)
    library = sysconfig.get_config_var("INSTSONAME")
    remedy = f"install {library}" if ".so" in library else "a Python with a shared library (--enable-shared) has none"
    return [f"the executable file of the process is {interpreter}: what looks for a daemon by its file, as "
            f"`start-stop-daemon --exec` does, does not find it; {remedy}"]
