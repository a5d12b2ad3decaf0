"""Extensions that only tests and benchmarks need: built from their Cython, here, against the package's declarations.

What compiled code decides can so be asked without a function for it in what users get.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from support.lacking import missing
from support.sources import PACKAGE, ROOT, sources_of

SUPPORT = Path(__file__).parent
KEPT = ROOT / "build" / "tests"
ENDING = str(sysconfig.get_config_var("EXT_SUFFIX"))

SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
name, source, folder, root, package = sys.argv[1:6]
sys.argv[1:] = ["build_ext", "--build-lib", folder, "--build-temp", folder]
extension = Extension(name, [source], include_dirs=[package], extra_compile_args=["-O2"])
setup(name=name, ext_modules=cythonize([extension], build_dir=folder, include_path=[root], language_level=3))
"""


def extension(name: str) -> ModuleType:
    """Load tests/support/NAME.pyx. It is built once, for as long as its source and the package's declarations stay."""
    source = SUPPORT / f"{name}.pyx"
    made_of = [version("Cython").encode(), *(path.read_bytes() for path in [source, *sources_of(".pxd", ".h")])]
    digest = hashlib.sha256(b"".join(made_of)).hexdigest()
    kept = KEPT / f"{name}-{digest[:16]}{ENDING}"
    if not kept.exists():
        build(source, kept)
    spec = importlib.util.spec_from_file_location(name, kept)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(source: Path, kept: Path) -> None:
    """Compile a .pyx to the file `kept`, which is there whole or not at all: several processes may want it at once."""
    if shutil.which("gcc") is None:
        missing("gcc is not installed")
    KEPT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=KEPT) as folder:
        done = subprocess.run(
            [sys.executable, "-c", SETUP, source.stem, source, folder, ROOT, PACKAGE],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        Path(folder, f"{source.stem}{ENDING}").replace(kept)
