"""The compiled core. Metadata and tools are in pyproject.toml; FASTINETD_BUILD chooses release, debug, asan or gcov."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = ["_board", "_program", "_admit", "_reception", "_servers", "_pools", "_zygotes", "_prefork", "_workers",
           "_accept", "_relay"]  # fmt: skip
HEADERS = [str(p) for p in sorted(Path("fastinetd").glob("*.h")) + sorted(Path("fastinetd").glob("*.pxd"))]
FLAGS = {
    "release": ["-O2"],
    "debug": ["-O0", "-g"],
    "asan": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "gcov": ["-O0", "-g", "--coverage"],
}
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-function", "-Wno-sign-compare"]
LINK = {"asan": ["-fsanitize=address,undefined"], "gcov": ["--coverage"]}

build = os.environ.get("FASTINETD_BUILD", "release")
if build not in FLAGS:
    raise SystemExit(f"setup.py: FASTINETD_BUILD={build}: expected one of {', '.join(FLAGS)}")
checks = build == "debug"

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"fastinetd.{name}",
                [f"fastinetd/{name}.pyx"],
                depends=HEADERS,
                extra_compile_args=[*FLAGS[build], *WARNINGS, "-fstack-protector-strong"],
                extra_link_args=LINK.get(build, []),
            )
            for name in MODULES
            if Path(f"fastinetd/{name}.pyx").exists()
        ],
        compiler_directives={
            "language_level": 3,
            "binding": True,
            "embedsignature": False,
            "boundscheck": checks,
            "wraparound": False,
            "initializedcheck": checks,
            "cdivision": True,
            "auto_pickle": False,
            "autotestdict": False,
        },
    )
)
