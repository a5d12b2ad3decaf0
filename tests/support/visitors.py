"""Clients without end, for what must hold while they come."""

from __future__ import annotations

import threading

from support.clients import ask
from support.proc import wait_for


class Visitors:
    """Clients of /bin/cat that come one after the other until told to stop."""

    def __init__(self, port: int, at_once: int) -> None:
        self.port = port
        self.over = threading.Event()
        self.served = 0
        self.problems: list[object] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._visit) for _ in range(at_once)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _visit(self) -> None:
        while not self.over.is_set():
            try:
                answer: object = ask(self.port, b"hello\n")
            except (OSError, AssertionError) as error:
                answer = error
            with self._lock:
                if answer == b"hello\n":
                    self.served += 1
                else:
                    self.problems.append(answer)

    def await_more(self, count: int) -> None:
        wanted = self.served + count
        wait_for(lambda: self.served >= wanted or self.problems, "more clients served")
