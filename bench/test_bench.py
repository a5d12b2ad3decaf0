"""The benchmark's own honesty: wrong answers are counted, times are right, ratios are taken in pairs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bench import procs
from bench.build import build_programs
from bench.load import LOAD, HoldError, hold_connections
from bench.report import record_of, result_table
from bench.runner import Result
from bench.scenario import Column, Target
from bench.scenarios import SCENARIOS


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    build_programs()


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that treats every connection with *answer*, then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def load(port: int, *options: str) -> dict[str, Any]:
    done = subprocess.run([LOAD, "-p", str(port), *options], capture_output=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_right_answers_are_counted() -> None:
    with answering(lambda c: c.sendall(b"hello\n")) as port:
        report = load(port, "-n", "50", "-e", "hello\n")
    assert report["ok"] == 50 and report["bytes"] == 300 and not any(report["errors"].values())


@pytest.mark.parametrize(
    ("answer", "options", "kind"),
    [
        (lambda c: c.sendall(b"hullo\n"), ("-e", "hello\n"), "wrong"),
        (lambda c: c.sendall(b"hell"), ("-e", "hello\n"), "wrong"),
        (lambda c: None, ("-e", "hello\n"), "empty"),
        (lambda c: c.sendall(b"!"), ("-x",), "wrong"),
        (lambda c: time.sleep(1), ("-e", "hello\n", "-T", "0.2"), "timeout"),
    ],
    ids=["other bytes", "cut short", "nothing", "not refused", "too late"],
)
def test_wrong_answers_are_errors(answer: Callable[[socket.socket], None], options: tuple[str, ...], kind: str) -> None:
    with answering(answer) as port:
        report = load(port, "-n", "3", *options)
    assert report["ok"] == 0
    assert report["errors"][kind] == 3 == sum(report["errors"].values())


def test_nobody_listening_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = load(unused.getsockname()[1], "-n", "5")
    assert report["errors"]["connect"] == 5


def test_latencies_are_those_of_the_server() -> None:
    """Never shorter than what the server took by its own clock; longer only by what the machine takes to tell."""
    took: list[tuple[float, float]] = []

    def slow(connection: socket.socket) -> None:
        begun = time.monotonic()
        time.sleep(0.03)
        first = time.monotonic() - begun
        connection.sendall(b"x")
        time.sleep(0.02)
        took.append((first, time.monotonic() - begun))

    with answering(slow) as port:
        report = load(port, "-n", "5", "-c", "1", "-e", "x")
    for what, own in zip(("first_us", "end_us"), zip(*took)):
        shortest = min(own) * 0.95  # the report's figures are in classes, a few per cent wide
        assert shortest <= report[what]["p50"] / 1e6 < max(own) + 0.5, what


def test_open_loop_counts_from_when_a_connection_was_due() -> None:
    def slow(connection: socket.socket) -> None:  # 50 per second at best, and 200 are asked for
        time.sleep(0.02)
        connection.sendall(b"x")

    with answering(slow) as port:
        report = load(port, "-s", "0.5", "-R", "200", "-c", "4", "-e", "x")
    assert report["first_us"]["max"] > 200_000
    assert report["answer_us"]["max"] < 200_000  # from connect(): four at a time, 20 ms each


def test_held_connections_that_are_lost_are_noticed() -> None:
    with (
        answering(lambda c: c.sendall(b"idle\n")) as port,
        pytest.raises(HoldError, match="lost"),
        hold_connections(port, 3),
    ):
        time.sleep(0.2)


def test_processor_time_survives_the_process_that_used_it() -> None:
    before = procs.cpu_seconds(os.getpid())
    subprocess.run(["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"], check=True)
    assert procs.cpu_seconds(os.getpid()) - before > 0.03


def test_ratios_are_taken_round_by_round() -> None:
    scenario: Any = SimpleNamespace(
        SUMMARY="a test",
        COLUMNS=(Column("rate", "conn/s"),),
        TARGETS=(
            Target("a", "rate", at_least=2.0, over="b"),
            Target("a", "rate", at_most=5.0),
            Target("c", "rate", at_least=1.0),
        ),
        BASELINE="b",
    )
    rates: dict[str, list[float | None]] = {"a": [10.0, 30.0, 8.0], "b": [5.0, 10.0, None]}
    samples = {case: [None if r is None else {"rate": r} for r in row] for case, row in rates.items()}
    result = Result("test", scenario, 3, samples)
    assert result.ratio("a", "b", "rate") == 2.5
    assert [(v.word, v.value) for v in result.verdicts()] == [
        ("PASS", 2.5),
        ("MISS", 10.0),
        ("not measured", None),
    ]
    assert "MISS  rate of a <= 5.0: 10" in result_table(result)
    filed = json.loads(json.dumps(record_of(result, {}, 1.0, "2026-11-25T01:02:03Z")))
    assert filed["cases"]["a"]["rate_over_b"] == 2.5


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_are_complete(name: str) -> None:
    scenario = SCENARIOS[name]
    assert scenario.SUMMARY and scenario.COLUMNS and scenario.BASELINE
    assert all((t.at_least is None) != (t.at_most is None) for t in scenario.TARGETS)
    assert all(Target.parse(str(target)) == target for target in scenario.TARGETS)
