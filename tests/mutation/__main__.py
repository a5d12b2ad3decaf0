"""Deliberate mutations: small faults are put into a copy of the project, and what no test notices is printed.

    make mutate                                       every mutation of curated.toml
    make mutate MUTATE="setgroups backlog"            those whose names hold one of these words
    make mutate MUTATE="--file fastinetd/core/admit.pyx --sample 20 [--seed 1] [--kind limit]"
                                                      so many made by the operators, of one file
    make mutate MUTATE="--list ..."                   only say what would be done

Each mutation is made in a copy of the tree below --folder, which has a build and an environment of its own; nothing
here is touched. The tests that are run are those that relevant.toml names for the file, or --tests. They run in a pid
and a network namespace of their own, because a mutation may signal or serve whom it pleases; that wants root, or
--unconfined. A first run without any mutation must pass. The exit status is 1 when a mutation survives, 2 when one of
curated.toml fits the source no longer or the tests fail without any.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation.operators import Mutation, mutations_of
from mutation.tree import Copy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 600
"""Seconds after which tests that do not end count as having noticed."""

CONFINED = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc"]


@dataclass(frozen=True)
class Task:
    """A mutation and the tests that should notice it."""

    mutation: Mutation
    tests: tuple[str, ...]


def curated(words: Sequence[str]) -> list[Task]:
    """The mutations of curated.toml whose names hold one of the words; all of them if no word is given."""
    found = []
    for name, each in tomllib.loads((HERE / "curated.toml").read_text()).items():
        if not words or any(word in name for word in words):
            mutation = Mutation(each["file"], name, each["find"], each["replace"])
            found.append(Task(mutation, tuple(each.get("tests", ())) or tests_of(each["file"])))
    return found


def tests_of(file: str) -> tuple[str, ...]:
    """The tests that are to notice what is wrong in a file: those named for it, and the unit tests of its name. Ends
    the command when there are none: a run without tests would be one of all of them."""
    folder, _, name = file.removeprefix("fastinetd/").partition(".")[0].rpartition("/")
    found = (ROOT / "tests/unit" / folder).glob(f"test_{name.lstrip('_')}*.py")
    own = [path.relative_to(ROOT).as_posix() for path in sorted(found)]
    named = tomllib.loads((HERE / "relevant.toml").read_text()).get(file, [])
    if not own and not named:
        sys.exit(f"{file}: no tests are known for it; name them in relevant.toml, or with --tests")
    return tuple(dict.fromkeys([*own, *named]))


def generic(options: argparse.Namespace) -> list[Task]:
    """A sample of what the operators make of a file."""
    tests = tuple(options.tests or tests_of(options.file))
    every = [
        each for each in mutations_of(options.file, (ROOT / options.file).read_text())
        if not options.kind or each.name.split()[0] in options.kind
    ]  # fmt: skip
    chosen = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    return [Task(each, tests) for each in sorted(chosen, key=lambda each: each.name.split()[1:])]


def verdict(copy: Copy, tests: Sequence[str], *, confined: bool) -> str:
    """Run the tests; returns which one fails first, "timeout", or "" when all pass."""
    command = [str(copy.python), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "-rfE", *tests]
    inside = [str(copy.python), str(copy.folder / "tests/mutation/inside.py"), *command]
    try:
        done = subprocess.run([*CONFINED, *inside] if confined else command, cwd=copy.folder, timeout=PATIENCE,
                              capture_output=True, text=True, errors="replace", check=False, env=copy.environment())
    except subprocess.TimeoutExpired:
        return "timeout"
    if done.returncode == 0:
        return ""
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return told[0] if told else f"status {done.returncode}: {(done.stdout + done.stderr)[-300:]}"


def work(tasks: Sequence[Task], copy: Copy, *, confined: bool) -> int:
    status = 0
    sound: dict[tuple[str, ...], bool] = {}
    survivors = []
    for number, task in enumerate(tasks, 1):
        if task.tests not in sound:
            failed = verdict(copy, task.tests, confined=confined)
            sound[task.tests] = not failed
            if failed:
                print(f"without any mutation: {failed}", flush=True)
        if not sound[task.tests]:
            status = 2
            continue
        print(f"[{number}/{len(tasks)}] {task.mutation.name}: ", end="", flush=True)
        try:
            problem = copy.mutate(task.mutation)
        except ValueError as error:
            print(f"STALE: {error}", flush=True)
            status = 2
            continue
        noticed = f"does not compile: {problem}" if problem else verdict(copy, task.tests, confined=confined)
        copy.restore()
        print(f"noticed by {noticed[:150]}" if noticed else "SURVIVES", flush=True)
        if not noticed:
            survivors.append(task.mutation)
    print(f"{len(survivors)} of {len(tasks)} survive", *(f"  {each.file}: {each.name}" for each in survivors), sep="\n")
    return status or int(bool(survivors))


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__, formatter_class=raw)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--file")
    parser.add_argument("--kind", action="append", help="an operator's name; may be given again")
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tests", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/fastinetd-mutation"))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--unconfined", action="store_true")
    options = parser.parse_args()
    tasks = generic(options) if options.file else curated(options.words)
    if options.list:
        for task in tasks:
            print(f"{task.mutation.file}: {task.mutation.name}\n  - {task.mutation.find}\n  + {task.mutation.replace}")
        return 0
    if os.geteuid() != 0 and not options.unconfined:
        sys.exit("the namespaces that keep mutations in want root; --unconfined does without")
    return work(tasks, Copy(ROOT, options.folder), confined=not options.unconfined)


if __name__ == "__main__":
    sys.exit(main())
