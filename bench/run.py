"""python -m bench [run]: every scenario, every server that is installed, one table each."""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import facts, records, report, runner
from bench.build import BuildError, build_programs, install_programs
from bench.peers import PEERS
from bench.scenario import Bench
from bench.scenarios import SCENARIOS

DESCRIPTORS = 65_536  # what servers and clients may open; not more: xinetd closes them all one by one


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    others = "Other commands: python -m bench plot, history, compare; each has --help."
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=others)
    parser.add_argument("--quick", action="store_true", help="does it all work? 1 s, 2 rounds, nothing filed")
    parser.add_argument("--seconds", type=float, help="length of one measurement (default 5)")
    parser.add_argument("--rounds", type=int, help="measurements of each case (default 5)")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help="only these")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all records to FILE as well")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (1.0 if options.quick else 5.0)
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


def raise_limits() -> None:
    """As many open files as thousands of connections take, as far as we are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), min(hard, DESCRIPTORS)))


@contextlib.contextmanager
def open_workplace() -> Iterator[Path]:
    """A directory for configurations and programs that every user may read."""
    with tempfile.TemporaryDirectory(prefix="fastinetd-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def keep_record(record: records.Record) -> None:
    """File a record with its picture."""
    path = records.file_record(record)
    print_line(f"filed as bench/results/{path.name}")
    try:
        from bench import plot
    except ImportError as error:
        print_line(f"without a picture: {error} (make installs matplotlib; then: python -m bench plot)")
    else:
        plot.draw_record(record, path.with_suffix(".png"))


def main(argv: Sequence[str]) -> int:
    options = parse_arguments(argv)
    if options.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:10} {scenario.SUMMARY}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended on the way out
    raise_limits()
    try:
        build_programs()
    except BuildError as error:
        print_line(f"bench: {error}")
        return 1
    for peer in PEERS:
        if not peer.find():
            print_line(peer.missing())
    machine, time = facts.machine_facts(), records.now()
    measured, problems = [], 0
    with open_workplace() as directory:
        bench = Bench(options.seconds, directory, install_programs(directory))
        for name in options.only or SCENARIOS:
            if not SCENARIOS[name].cases(bench):
                print_line(f"{name}: nothing to measure here")
                continue
            result = runner.run_scenario(name, SCENARIOS[name], bench, options.rounds, print_line)
            print(report.result_table(result), end="\n\n", flush=True)
            measured.append(report.record_of(result, machine, options.seconds, time))
            problems += len(result.problems)
            if not options.quick:
                keep_record(measured[-1])
    if options.json:
        records.write_records(options.json, measured)
    return 1 if problems else 0
