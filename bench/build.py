"""Compiles the four C programs into bench/build/ and puts copies where any user may run them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
FLAGS = ("-O2", "-Wall", "-Wextra")
# idle is static because thousands of them are alive at once; hello is dynamic as real servers are.
PROGRAMS: dict[str, tuple[str, ...]] = {"ceiling": (), "load": (), "hello": (), "idle": ("-static",)}


class BuildError(Exception):
    """gcc is missing or did not like a program; the text says which."""


def build() -> None:
    """Compile what is older than its source. Raises BuildError; a compiler warning is an error too."""
    if shutil.which("gcc") is None:
        raise BuildError("gcc is needed to build the benchmark's programs (Debian: gcc, libc6-dev)")
    BUILD.mkdir(exist_ok=True)
    for name, extra in PROGRAMS.items():
        source, target = HERE / f"{name}.c", BUILD / name
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        command = ["gcc", *FLAGS, *extra, "-o", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or done.stderr:
            target.unlink(missing_ok=True)
            raise BuildError(f"{source.name}: {done.stderr.strip()}")


def install(directory: Path) -> dict[str, str]:
    """Copy the programs servers start into *directory*, readable by everybody; name -> path.

    A checkout may lie below a directory that user nobody cannot enter.
    """
    paths = {}
    for name in ("hello", "idle"):
        paths[name] = str(shutil.copy(BUILD / name, directory / name))
        Path(paths[name]).chmod(0o755)
    paths["cat"] = shutil.which("cat") or "/bin/cat"
    return paths
