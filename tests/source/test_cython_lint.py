"""cython-lint finds nothing in the compiled sources."""

import os
import subprocess
import sys
from pathlib import Path

from support.sources import ROOT, sources_of

COUNTING = "Loop control variable"
"""A loop that only counts has a C variable of a declared type; it is not renamed for that."""

RUN = "import sys; from cython_lint.cython_lint import main; sys.exit(main())"


def test_cython_lint() -> None:
    sources = [str(path.relative_to(ROOT)) for path in sources_of(".pyx", ".pxd")]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts pycodestyle by name
    done = subprocess.run(
        [sys.executable, "-c", RUN, *sources],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PATH": tools},
    )  # fmt: skip
    remarks = [line for line in done.stdout.splitlines() if COUNTING not in line]
    assert not done.stderr
    assert remarks == []
