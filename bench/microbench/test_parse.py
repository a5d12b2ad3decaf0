"""Reading the configuration: 1,000 services, in a file each (xinetd) and in one (inetd)."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers import User, write_inetd, write_xinetd
from bench.servers import Service
from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config

SERVICES = [Service(f"bench-{port}", port, "/bin/true", ("-a", "b"), "10.0.0.0/8") for port in range(20000, 21000)]


@pytest.mark.parametrize("kind", ["xinetd", "inetd"])
def test_parse_1000_services(benchmark: BenchmarkFixture, tmp_path: Path, kind: str) -> None:
    """From the file's name to the records, reading the files included."""
    write = {"xinetd": write_xinetd, "inetd": write_inetd}[kind]
    write(tmp_path, SERVICES, User("nobody", 65534, 65534, True))
    path = str(tmp_path / f"{kind}.conf")
    config = benchmark(lambda: load_config(path, kind=kind, report=Report()))
    assert not config.fatal
    assert len(config.services) == len(SERVICES)
