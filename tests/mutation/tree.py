"""A copy of the project with a build and an environment of its own, in which mutations are made and taken back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from mutation.operators import Mutation

BUILT = ("*.so", "*.c")
COMPILED = (".pyx", ".pxd", ".h", ".c")


class Copy:
    """The files that git knows, and what has been built of them."""

    def __init__(self, root: Path, folder: Path) -> None:
        """`folder` is made anew."""
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=root, capture_output=True, check=True).stdout
        for name in filter(None, os.fsdecode(names).split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        for pattern in BUILT:
            for path in (root / "fastinetd").rglob(pattern):
                shutil.copy2(path, folder / path.relative_to(root))
        self._environment()
        if problem := self._build():
            raise SystemExit(f"{folder}: the copy cannot be built: {problem}")
        self._pristine = folder.with_name(folder.name + ".built")
        shutil.rmtree(self._pristine, ignore_errors=True)
        shutil.copytree(folder / "fastinetd", self._pristine, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def python(self) -> Path:
        return self.folder / ".venv/bin/python"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def mutate(self, mutation: Mutation) -> str:
        """Make a mutation; returns why it does not compile. Raises ValueError when it does not fit the source."""
        path = self.folder / mutation.file
        path.write_text(mutation.applied(path.read_text()))
        return self._build() if path.suffix in COMPILED else ""

    def restore(self) -> None:
        """Take every mutation back."""
        for path in self._pristine.rglob("*"):
            target = self.folder / "fastinetd" / path.relative_to(self._pristine)
            if path.is_file() and (not target.exists() or target.stat().st_mtime_ns != path.stat().st_mtime_ns):
                target.unlink(missing_ok=True)  # it may be mapped by a process that a mutation has left
                shutil.copy2(path, target)

    def _environment(self) -> None:
        """Make an interpreter that has the tools of this one and the package of the copy."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.folder / ".venv"], check=True)
        site = next((self.folder / ".venv/lib").glob("python*/site-packages"))
        (site / "copy.pth").write_text(f"{self.folder}\n{sysconfig.get_path('purelib')}\n")
        command = Path(sys.executable).with_name("fastinetd")
        if command.exists():
            shutil.copy2(command, self.folder / ".venv/bin/fastinetd")  # it looks for the interpreter beside itself

    def _build(self) -> str:
        """Build what has changed; returns the end of the build's output if it fails."""
        done = subprocess.run([self.python, "setup.py", "-q", "build_ext", "--inplace"], cwd=self.folder,
                              capture_output=True, text=True, check=False, env=self.environment())
        return (done.stdout + done.stderr)[-300:] if done.returncode else ""
