"""A configuration text, and what is read in it."""

from pathlib import Path
from typing import ClassVar

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.config.model import Config, Service


class Reading:
    """A text written to a file of `folder` and read by the kind of reader that the subclass names."""

    kind: ClassVar[str]

    def __init__(self, folder: Path, text: str | bytes) -> None:
        path = folder / ("x.toml" if self.kind == "toml" else "x.conf")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.report = Report()
        self.config: Config = load_config(str(path), kind=self.kind, report=self.report)

    @property
    def ids(self) -> list[str]:
        """The ids of the services."""
        return [service.id for service in self.config.services]

    @property
    def codes(self) -> list[str]:
        """What is reported, by the codes of the catalogue."""
        return [diagnostic.code for diagnostic in self.report]

    @property
    def at(self) -> list[tuple[int, int]]:
        """Line and column of each thing that is reported."""
        return [(diagnostic.place.line, diagnostic.place.column) for diagnostic in self.report]

    @property
    def only(self) -> Service:
        """The one service of a text in which nothing is wrong."""
        assert self.codes == []
        (service,) = self.config.services
        return service


class XinetdReading(Reading):
    kind = "xinetd"


class TomlReading(Reading):
    kind = "toml"
