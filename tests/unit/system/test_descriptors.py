"""Descriptors that stay open: from which number on, in C and in Python."""

from __future__ import annotations

import re
from pathlib import Path

from fastinetd.system import descriptors


def test_c_and_python_agree() -> None:
    header = Path(descriptors.__file__).with_suffix(".h").read_text()
    assert re.findall(r"#define FIRST_KEPT_DESCRIPTOR (\d+)\n", header) == [str(descriptors.FIRST_KEPT_DESCRIPTOR)]
