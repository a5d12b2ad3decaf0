"""The stubs say what the compiled modules are: names, parameters, defaults, attributes."""

import subprocess
import sys
from pathlib import Path

from support.hot import PACKAGE, compiled_modules, module_of

ROOT = Path(__file__).parents[2]
MODULES = [f"fastinetd.{module}" for module in compiled_modules()]
NOT_FOR_PYTHON = r"fastinetd\.[\w.]+\.__pyx_capi__"
"""What a compiled module offers other compiled modules."""


def test_every_compiled_module_has_a_stub() -> None:
    stubs = sorted(f"fastinetd.{module_of(path)}" for path in PACKAGE.rglob("*.pyi"))
    assert stubs == MODULES


def test_stubs_and_modules_agree(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{NOT_FOR_PYTHON}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--ignore-unused-allowlist", "--allowlist", str(allowed), *MODULES],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
