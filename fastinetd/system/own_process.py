"""How this process was started, as far as others know it by that: its kernel's name, its executable file.

The command's executable file (_launcher.c) has the interpreter in it. Where it cannot have, it executes the interpreter
in its place, and hands the name on as an option of Python: `-X fastinetd=NAME`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

_OPTION = "fastinetd"


def name_of_process() -> str:
    """The kernel's name of the command as it was started: `fastinetd`, or that of a link to it (`xinetd`)."""
    handed_on = sys._xoptions.get(_OPTION)
    if isinstance(handed_on, str):
        return handed_on
    name = Path("/proc/self/comm").read_text().rstrip("\n")
    return "fastinetd" if name.startswith(("python", "fastinetd:")) else name


def shortcomings() -> list[str]:
    """Why others do not find this process by its executable file, where the command should have seen to that."""
    if _OPTION not in sys._xoptions:
        return []
    interpreter = os.path.realpath(sys.executable)
    library = sysconfig.get_config_var("INSTSONAME")
    remedy = f"install {library}" if ".so" in library else "a Python with a shared library (--enable-shared) has none"
    return [f"the executable file of the process is {interpreter}: what looks for a daemon by its file, as "
            f"`start-stop-daemon --exec` does, does not find it; {remedy}"]
