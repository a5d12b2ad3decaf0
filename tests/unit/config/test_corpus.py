"""Real configuration files: each gives services or messages, never an exception. Without the files these tests skip.
"""

import re

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.dialects import DIALECTS
from fastinetd.config.load import load_config
from fastinetd.config.model import Config
from support.corpus import FOLDER, IS_HERE, REMARKS, corpus_files

pytestmark = pytest.mark.skipif(not IS_HERE, reason="the folder of real configuration files is not here")

FILES = [*corpus_files("inetd"), *corpus_files("xinetd")]


def read(name: str, dialect: str = "debian") -> tuple[Config, Report]:
    report = Report()
    config = load_config(str(FOLDER / name), kind=name.split("/")[0], dialect=dialect, report=report)
    return config, report


def switched_off(name: str) -> bool:
    """Whether the file starts nothing and rightly so: all disabled or commented out, or only defaults and includes."""
    text = re.sub(r"(?m)^[ \t]*#.*", "", (FOLDER / name).read_text(errors="replace"))
    if name.startswith("inetd/"):
        return not text.strip()
    services = len(re.findall(r"(?mi)^\s*service\s", text))
    return services <= len(re.findall(r"(?mi)^\s*disable\s*=\s*yes", text))


@pytest.mark.parametrize("name", FILES)
def test_services_or_messages(name: str) -> None:
    config, report = read(name)
    assert config.services or [*report] or switched_off(name)
    for service in config.services:
        assert service.internal or (service.server and service.argv and service.user)
    if config.broken or config.fatal:
        assert report.errors
    lines = len((FOLDER / name).read_bytes().split(b"\n"))
    for diagnostic in report:
        assert 1 <= diagnostic.place.line <= lines
        assert str(diagnostic)


@pytest.mark.parametrize("name", [name for name in FILES if "BROKEN:" in REMARKS.get(name, "")])
def test_broken_files_have_errors(name: str) -> None:
    assert read(name)[1].errors


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("inetd/")])
def test_every_dialect(name: str) -> None:
    for dialect in DIALECTS:
        config, _ = read(name, dialect)
        assert len({service.id for service in config.services}) == len(config.services)


def counted(name: str) -> bool:
    """Whether the number of `active` lines in the manifest is that of services: nothing unusual is remarked."""
    remark = REMARKS.get(name, "")
    odd = ("BROKEN", "rpc", "odd", "other", "tcpmux", "default-line", "continuation", "no-user")
    active = name.startswith("inetd/") and re.match(r"active:\d+", remark)
    return bool(active) and not any(word in remark for word in odd)


@pytest.mark.parametrize("name", [name for name in FILES if counted(name)])
def test_every_active_line_is_a_service_or_an_error(name: str) -> None:
    config, report = read(name)
    lines = {d.place.line for d in report if d.severity.value == "error"}
    assert len(config.services) + len(lines) == int(REMARKS[name].split()[0].split(":")[1])
