"""Extensions that only tests need: built from their Cython, here, against the package's declarations.

What compiled code decides can so be asked without a function for it in what users get.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]

SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
name, source, folder, root, package = sys.argv[1:6]
sys.argv[1:] = ["build_ext", "--build-lib", folder, "--build-temp", folder]
extension = Extension(name, [source], include_dirs=[package], extra_compile_args=["-O0"])
setup(name=name, ext_modules=cythonize([extension], build_dir=folder, include_path=[root], language_level=3))
"""


def extension(name: str, folder: Path) -> ModuleType:
    """Build tests/support/NAME.pyx in `folder`, and load it."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP, name, SUPPORT / f"{name}.pyx", folder, ROOT, ROOT / "fastinetd"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob(f"{name}.*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
