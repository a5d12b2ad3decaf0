"""Fixtures of the tests of pools."""

from __future__ import annotations

from types import ModuleType

import pytest

from support.extension import extension


@pytest.fixture(scope="session")
def rules() -> ModuleType:
    """What pools decide by numbers alone (tests/support/pool_rules.pyx)."""
    return extension("pool_rules")


@pytest.fixture(scope="session")
def steps() -> ModuleType:
    """An acceptor's zygotes, one step after another (tests/support/zygote_steps.pyx)."""
    return extension("zygote_steps")
