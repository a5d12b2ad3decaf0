"""Fixtures of the tests of pools."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from support.extension import extension


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> ModuleType:
    """What pools decide by numbers alone (tests/support/pool_rules.pyx)."""
    need("gcc")
    return extension("pool_rules", tmp_path_factory.mktemp("rules"))


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> ModuleType:
    """An acceptor's zygotes, one step after another (tests/support/zygote_steps.pyx)."""
    need("gcc")
    return extension("zygote_steps", tmp_path_factory.mktemp("steps"))
