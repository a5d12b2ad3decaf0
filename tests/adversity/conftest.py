"""`keep`: clients that are closed at the end of a test, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol, TypeVar

import pytest


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


@pytest.fixture
def keep() -> Iterator[Callable[[C], C]]:
    """A function that returns the client it is given, and closes it at the end of the test, before the daemon is
    stopped."""
    with ExitStack() as stack:

        def kept(client: C) -> C:
            stack.callback(client.close)
            return client

        yield kept
