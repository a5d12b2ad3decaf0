"""Writes docs/attributes.md from the table: `python -m fastinetd.manual.attributes > docs/attributes.md`."""

from __future__ import annotations

from fastinetd.config.settings import GROUPS, Setting

_INTRODUCTION = """\
# Attributes

What a service may say in xinetd.conf and, by the same names, in the native TOML file. This page is written
from the table that the readers use (`fastinetd/config/settings.py`), by `python -m fastinetd.manual.attributes`.

Names and keywords may be in any case. *In* tells where an attribute may stand, *operators* what may follow
its name, *effect* what this release does with it. `+=` and `-=` start from what `defaults` say. In TOML there
is only `=`: a string is parted at blanks as in xinetd.conf, a list is taken item by item; yes and no are
`true` and `false`, numbers stand bare.

In inetd.conf the attributes under *Pools* may follow the program, as in
`/usr/sbin/in.fingerd;spawn=zygote;snapshot=first_io`. A handler stands there without a program:
`;spawn=worker;handler=MODULE:FUNCTION`.
"""

_HEADER = """\
| attribute | write | in | operators | when not written | meaning | from | effect |
|---|---|---|---|---|---|---|---|
"""


def attributes_page() -> str:
    """The text of docs/attributes.md."""
    parts = [_INTRODUCTION]
    for heading, rows in GROUPS.items():
        parts.append(f"\n## {heading}\n\n{_HEADER}" + "".join(map(_table_row, rows)))
    return "".join(parts)


def _table_row(row: Setting) -> str:
    """An attribute as a row of the table, in Markdown."""
    name = f"`{row.name}`" + (" (TOML only)" if row.toml_only else "")
    operators = " ".join(f"`{operator}`" for operator in row.operators)
    where, default, origin = row.scope.value, row.default, row.origin.value
    cells = (name, row.syntax, where, operators, default, row.meaning, origin, row.effect)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    print(attributes_page(), end="")
