"""Compiles the C programs into bench/build/ and puts what servers start where any user may run it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
FLAGS = ("-O2", "-Wall", "-Wextra")
# idle is static because thousands of them are alive at once; hello is dynamic as real servers are.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "ceiling": (),
    "inprocess": (),
    "load": (),
    "hello": (),
    "worker": (),
    "idle": ("-static",),
}
SCRIPTS = {"hello.sh": "bash", "hello.pl": "perl", "hello.py": "python3", "hello_exit.py": "python3"}
"""Scripts of scripts/, and the interpreters that read them."""
HANDLER = "bench_handler"  # the module that bench/handler.py is installed as: a name nothing else has
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"  # an interpreter elsewhere may be one that user nobody cannot reach


class BuildError(Exception):
    """gcc is missing or did not like a program; the text says which."""


def build_programs() -> None:
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


def install_programs(directory: Path) -> dict[str, str]:
    """Copy what servers start into *directory*, readable by everybody; name -> path. A script whose
    interpreter is missing is missing too.

    A checkout may lie below a directory that user nobody cannot enter.
    """
    paths = {}
    for name in ("hello", "idle", "worker"):
        paths[name] = str(shutil.copy(BUILD / name, directory / name))
        Path(paths[name]).chmod(0o755)
    for name, reader in SCRIPTS.items():
        if interpreter := shutil.which(reader, path=SYSTEM_PATH):
            paths[name] = str(directory / name)
            _, _, body = (HERE / "scripts" / name).read_text().partition("\n")
            Path(paths[name]).write_text(f"#!{interpreter}\n{body}")
            Path(paths[name]).chmod(0o755)
    module = directory / f"{HANDLER}.py"
    shutil.copy(HERE / "handler.py", module)
    module.chmod(0o644)
    paths["cat"] = shutil.which("cat") or "/bin/cat"
    return paths
