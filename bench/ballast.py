"""Runs fastinetd in a process that already holds memory: $FASTINETD_BENCH_BALLAST_MB megabytes, touched.

Takes the arguments of fastinetd. Only the benchmark uses it.
"""

from __future__ import annotations

import os
import sys

from fastinetd.cli.main import main

PAGE = 4096
ballast = bytearray(int(os.environ.get("FASTINETD_BENCH_BALLAST_MB", "0")) * 1_000_000)
ballast[::PAGE] = b"\1" * len(range(0, len(ballast), PAGE))  # a page counts once it is written to

if __name__ == "__main__":
    sys.exit(main())
