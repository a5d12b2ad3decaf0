"""What readers and the Plan say about a configuration: one catalogue of messages, each with a place and a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from fastinetd.config.model import Place


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    code: str  # key in CATALOGUE
    place: Place
    severity: Severity
    text: str
    service: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.severity.value}: {self.text}"


CATALOGUE: dict[str, tuple[Severity, str]] = {}
"""Code -> severity and text. A text says what is wrong and, after a semicolon, what to write instead."""


@dataclass
class Report:
    """Collects diagnostics while a configuration is read and planned."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def add(self, code: str, place: Place, /, *, service: str | None = None, **values: object) -> Diagnostic:
        """Record CATALOGUE[code] at `place`, its text filled in with `values`."""
        severity, text = CATALOGUE[code]
        diagnostic = Diagnostic(code, place, severity, text.format_map(values), service)
        self.diagnostics.append(diagnostic)
        return diagnostic

    @property
    def errors(self) -> int:
        return sum(d.severity is Severity.ERROR for d in self.diagnostics)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.diagnostics)
