"""`fastinetd --demo`: each line that it prints is run word by word, with no more programs than a small machine has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.clients import free_port
from support.daemon import environment

PATIENCE = 60.0
ANSWERS = {"echo": "are you there?", "daytime": "20", "hello": "Hello 127.0.0.1", "metrics": "fastinetd_build_info"}


@pytest.mark.parametrize("programs", [("sh",), ("sh", "bash"), ("sh", "bash", "curl", "nc")])
def test_each_line_works(
    programs: tuple[str, ...], tmp_path: Path, need: Callable[[str], str]
) -> None:
    for program in programs:
        if path := shutil.which(program):
            (tmp_path / program).symlink_to(os.path.realpath(path))
    own = environment({"PATH": str(tmp_path)})
    command = [sys.executable, "-m", "fastinetd", "--demo", "--metrics", f"127.0.0.1:{free_port()}"]
    with ExitStack() as stack:
        demo = stack.enter_context(subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True, cwd=tmp_path))
        stack.callback(demo.send_signal, signal.SIGINT)
        assert demo.stdout is not None
        lines = dict[str, str]()
        for line in demo.stdout:
            if line.startswith("  "):
                name, _, lines[name] = line.strip().partition(" ")
            if "metrics" in lines:
                break
        assert lines.keys() == ANSWERS.keys()
        for name, line in lines.items():
            paste = [need("sh"), "-c", line.strip()]
            done = subprocess.run(paste, env=own, capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert done.returncode == 0, (line, done.stderr)
            assert ANSWERS[name] in done.stdout, (line, done.stdout)
    assert demo.returncode == 0
