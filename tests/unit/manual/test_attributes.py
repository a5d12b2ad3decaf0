"""docs/attributes.md is what the table says, and the table fits the records."""

import dataclasses
from pathlib import Path

from fastinetd.config.model import Service
from fastinetd.config.settings import ANY, GROWS, REMEDIES, SETTINGS, Origin
from fastinetd.manual.attributes import attributes_page

PAGE = Path(__file__).parents[3] / "docs" / "attributes.md"


def test_page_is_current() -> None:
    assert PAGE.read_text() == attributes_page(), (
        "write it with: python -m fastinetd.manual.attributes > docs/attributes.md"
    )


def test_every_value_has_its_field() -> None:
    fields = {field.name for field in dataclasses.fields(Service)}
    for setting in SETTINGS.values():
        if setting.part_of is None:
            assert setting.key in fields, setting.name
        else:
            assert setting.key not in fields, setting.name
            assert setting.part_of in fields | {""}, setting.name


def test_rows_are_whole() -> None:
    for name, setting in SETTINGS.items():
        assert name == name.lower() == setting.name
        assert setting.operators == ("=",) or setting.count == GROWS
        assert setting.meaning
        assert setting.syntax
        if setting.refused:
            assert name in REMEDIES
        assert setting.unused is not ANY or setting.origin is Origin.XINETD
