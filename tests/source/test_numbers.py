"""Numbers in the pages of the documentation are those of the sources."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastinetd"

NUMBERS = [
    ("ARCHITECTURE.md", "accepts, up to 16 in a row", "core/reception.pxd", "ACCEPTS_IN_A_ROW = 16 "),
    ("ARCHITECTURE.md", "after 12 s refused", "doorman/protocol.py", "ANSWER_WITHIN = 12\n"),
    ("ARCHITECTURE.md", "it is killed after 5 s, and", "supervisor/generation.py", "LEAVE_WITHIN = 5.0\n"),
    ("ARCHITECTURE.md", "the listener rests 50 ms", "core/reception.pyx", "STARVED = 50000000 "),
    ("ARCHITECTURE.md", "a timer kills it after 10 s", "core/spawn.h", "#define SPAWN_SECONDS 10 "),
    ("ARCHITECTURE.md", "a tenth of its time at most", "services/listeners.py", "PAUSE_PER_ATTEMPT = 9.0\n"),
    ("ARCHITECTURE.md", "after 5 s the client is served by exec", "pools/pool.pyx", "TAKEN_WITHIN = 5 * SECOND\n"),
    ("ARCHITECTURE.md", "Descriptors that stay are at 64 or above", "system/descriptors.py", "DESCRIPTOR = 64\n"),
    ("ARCHITECTURE.md", "8,192 rows", "plan/plan.py", "MOST_SERVICES = 8192\n"),
    ("ARCHITECTURE.md", "65,536 slots", "config/settings.py", "MOST_PROCESSES = 65_536\n"),
    ("README.md", "wait five seconds for them at most", "supervisor/departure.py", "SERVERS_END_WITHIN = 5.0\n"),
    ("README.md", "(50 a second where nothing is written)", "config/settings.py", '"50 10"'),
    ("docs/differences.md", "4 MiB in all files", "config/load.py", "MOST_BYTES = 4 << 20\n"),
    ("docs/differences.md", "8,192 services (32,768 with", "config/entries.py", "MOST_ENTRIES = 32_768\n"),
    ("docs/differences.md", "8,192 services", "plan/plan.py", "MOST_SERVICES = 8192\n"),
    ("docs/differences.md", "after a tenth of a second", "services/queue_demand.py", "FIRST_PAUSE = 0.1\n"),
    ("docs/differences.md", "up to 30 seconds (0.2 for stream sockets)", "services/wait.py", "_STREAM = 30.0, 0.2\n"),
    ("docs/logs.md", "Up to 10,000 lines", "logs/sink.py", "= 10_000\n"),
    ("docs/logs.md", "said once in ten seconds", "logs/service_log.py", "= 10.0\n"),
    ("docs/logs.md", "nobody has waited for ten to twenty seconds", "services/rate_episodes.py", "= 10.0\n"),
    ("docs/logs.md", "or 65,536", "config/settings.py", "MOST_PROCESSES = 65_536\n"),
    ("docs/pools.md", "more than 256 files open", "stage/files.h", "#define STAGE_FILES_MAX 256\n"),
    ("docs/pools.md", "40 system calls after its start or fewer", "pools/zygote.pyx", "FEW_CALLS = 40 "),
    ("docs/pools.md", "`/proc/self/fd/60`", "stage/stage.h", "#define STAGE_LIBRARY 60 "),
    ("docs/pools.md", "not ready after 60 seconds", "plan/pool_plan.py", "ready_within=60,"),
    ("docs/pools.md", "does not answer for 5 seconds", "pools/pool.pyx", "TAKEN_WITHIN = 5 * SECOND\n"),
    ("docs/pools.md", "pauses from 0.1 to 30 seconds", "pools/pool.pyx", "LONGEST_PAUSE = 30 * SECOND\n"),
    ("docs/pools.md", "one that lived for five seconds", "pools/pool.pyx", "STABLE_AFTER = 5 * SECOND\n"),
    ("docs/pools.md", "too many for five seconds", "pools/parked_demand.pxd", " = 5  #"),
    ("docs/pools.md", "`max_spare` goes after five seconds", "pools/workers.pyx", " = 5  #"),
    ("docs/pools.md", "when a client has waited for 5 ms", "pools/workers.pxd", " = 5_000_000  # ns to be without"),
    ("docs/pools.md", "within a millisecond of processor time", "stage/scout.h", "#define SOON 1000000 "),
    ("docs/pools.md", "what has been idle for a minute", "plan/pool_plan.py", "spare_after=60,"),
    ("docs/rates.md", "N = 4096", "core/rates.pxd", "RATE_CELLS = 4096"),
    ("docs/workers.md", "at most 8 KB and 110 lines", "logs/standard_error.py", "MESSAGE_LINES = 110\n"),
    ("docs/workers.md", "at most 8 KB and 110 lines", "logs/standard_error.py", "MESSAGE_BYTES = 8192\n"),
    ("docs/workers.md", "no more than 20 different messages", "logs/standard_error.py", "= 20\n"),
    ("docs/workers.md", "no more than some 320 a second", "logs/standard_error.py", "= 32, 0.1\n"),
    ("docs/workers.md", "ends with status 78", "worker/__main__.py", "CANNOT = 78\n"),
    ("docs/workers.md", "with a NUL after each, at most 8 KB", "worker/protocol.py", " = 8192\n"),
]
"""Page, what it says, and the source and the text in it that make it so."""


@pytest.mark.parametrize(("page", "says", "source", "text"), NUMBERS)
def test_number(page: str, says: str, source: str, text: str) -> None:
    assert says in " ".join((ROOT / page).read_text().split()), f"{page}: what does it say of {text.strip()}?"
    assert text in (PACKAGE / source).read_text(), f"{page} says: {says}"
