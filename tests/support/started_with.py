"""started_with.py FILE PROGRAM ARGUMENTS: execve with the environment in FILE, each entry with its NUL.

What os.execve cannot give: entries without `=`, empty ones, and variables that are there twice.
"""

import ctypes
import os
import sys
from pathlib import Path

entries = Path(sys.argv[1]).read_bytes().split(b"\0")[:-1]
argv = [os.fsencode(word) for word in sys.argv[2:]]
ctypes.CDLL(None).execve(
    argv[0], (ctypes.c_char_p * (len(argv) + 1))(*argv, None), (ctypes.c_char_p * (len(entries) + 1))(*entries, None)
)
sys.exit(f"{sys.argv[2]} cannot be executed")
