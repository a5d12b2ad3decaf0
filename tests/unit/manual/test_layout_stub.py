"""core/layout.pyi is what core/layout.pxd says."""

from pathlib import Path

from fastinetd.core import layout
from fastinetd.manual.layout_stub import layout_stub


def test_stub_is_current() -> None:
    stub = Path(layout.__file__).with_name("layout.pyi")
    assert stub.read_text() == layout_stub(), (
        "write it with: python -m fastinetd.manual.layout_stub > fastinetd/core/layout.pyi"
    )
