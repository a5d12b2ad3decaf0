"""From written lines to values: one block is held against the table in settings.py.

The result of a block is a dict of values by `Setting.key`, and the place of each. Nothing here stops at an
error: a line that cannot be used is reported and left out, so that the lines after it are checked as well.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entry, Written, place_of, places_of, shown
from fastinetd.config.model import Place
from fastinetd.config.settings import ANY, GROWS, ONCE, REMEDIES, SETTINGS, Scope, Setting
from fastinetd.config.values import BadValue

_Step = tuple[bool, tuple[str, ...], tuple[Place, ...]]
"""What a line does to a list: whether it adds (or takes away), the words, and the places of those that it adds."""


class Block:
    """The values of one service, or of all `defaults`; after the last line `settle` must be called."""

    __slots__ = ("broken", "failed", "growing", "places", "seen", "spots", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}  # Setting.key -> value
        self.places: dict[str, Place] = {}  # attribute name -> place of its value
        self.spots: dict[str, tuple[Place, ...]] = {}  # Setting.key of a list -> place of each entry
        self.growing: dict[str, list[_Step]] = {}  # Setting.key of a list -> what its lines add and take away
        self.seen: set[str] = set()  # attributes of one value that have it; of several `defaults` the first counts
        self.failed: set[str] = set()  # attributes with an error of their own
        self.broken = False  # there are errors

    def fail(self, name: str) -> None:
        """An error about this attribute has been reported."""
        self.failed.add(name)
        self.broken = True

    def settle(self) -> None:
        """Make the lists of which `growing` has the steps, once for all lines: a blocklist may have a hundred thousand
        of them, each of which would copy what is before it."""
        for field, steps in self.growing.items():
            taken: set[str] = set()
            items: list[str] = []
            spots: list[Place] = []
            for adds, words, places in reversed(steps):  # so that what is taken away later is known
                if not adds:
                    taken.update(words)
                    continue
                kept = [index for index in range(len(words) - 1, -1, -1) if words[index] not in taken]
                items += [words[index] for index in kept]
                if places:
                    spots += [places[index] for index in kept]
            self.values[field] = tuple(reversed(items))
            if SETTINGS[field].located:
                self.spots[field] = tuple(reversed(spots))
        self.growing.clear()


def interpret(
    entry: Entry,
    block: Block,
    base: Block,
    report: Report,
    *,
    defaults: bool = False,
    toml: bool = False,
) -> None:
    """Add the values of `entry` to `block`; `+=` and `-=` start from `base` (that of `defaults`) where the block says
    nothing yet. A repeated `=` on a list replaces it in a service, and adds to it in `defaults`, as in xinetd."""
    seen, values, places = block.seen, block.values, block.places
    service = None if defaults else entry.name
    for written in entry.lines:
        name, operator, words, line, column, text, _ = written
        setting = SETTINGS.get(name)
        if setting is None or (setting.toml_only and not toml):
            report.add(
                "unknown-attribute",
                _name_place(entry, written),
                service=service,
                name=shown(name),
                remedy="" if report.is_full("unknown-attribute") else _remedy(name, toml),
            )
            continue
        if setting.scope is not Scope.BOTH and (setting.scope is Scope.DEFAULTS) is not defaults:
            _say_elsewhere(entry, written, name, report, service)
            continue
        if "#" in text and not toml:
            written = _without_comment(entry, written, setting, report, service)
            words = written.words
        count = setting.count
        if count != GROWS:
            if name in seen:
                if name != "log_type" or not defaults:
                    report.add("already-set", _name_place(entry, written), service=service, name=name)
                    continue
                report.add("log-type-again", _name_place(entry, written), name=name)
            if operator != "=":
                report.add("wrong-operator", _name_place(entry, written), service=service, name=name, operators="`=`")
                continue
            if count != ONCE and len(words) != count:
                _say_count(entry, written, setting, block, report, service, fatal=toml)
                continue
            seen.add(name)
        elif operator not in setting.operators:
            report.add("cannot-take-away", _name_place(entry, written), service=service, name=name)
            block.fail(name)
            continue
        if not words and not setting.optional:
            # In xinetd bind is a single value, and an empty one of those does no harm.
            _say_count(entry, written, setting, block, report, service, fatal=toml or setting.field != "bind")
            continue
        try:
            value = setting.parse(words)
        except BadValue as bad:
            report.add(
                "bad-default" if defaults else "bad-value",
                place_of(entry, written, bad.index),
                service=service,
                name=name,
                value=shown(words[bad.index]),
                problem=bad.problem,
                syntax=setting.asked(toml=toml),
            )
            block.fail(name)
            continue
        field = setting.key
        if count == GROWS:
            if operator == "=" and values.get(field):
                _say_again(entry, written, setting, block, report, service)
            adds = setting.appends or defaults
            value = _grown(setting, operator, value, block, base, places_of(entry, written), adds=adds)
        values[field] = value
        places[name] = Place(entry.file, line, column)
        if field in SETTINGS and name != field:
            places.setdefault(field, places[name])
        if setting.unused or setting.refused:
            _say_effect(entry, written, setting, block, report, service)


def _say_elsewhere(entry: Entry, written: Written, name: str, report: Report, service: str | None) -> None:
    """Report an attribute of services in `defaults`, or the other way round."""
    place = _name_place(entry, written)
    if service is None:
        report.add("not-in-defaults", place, name=name)
    else:
        report.add("only-in-defaults", place, service=service, name=name, remedy=_instead(name))


def _say_count(
    entry: Entry,
    written: Written,
    setting: Setting,
    block: Block,
    report: Report,
    service: str | None,
    *,
    fatal: bool,
) -> None:
    """Report a wrong number of values: xinetd ignores such a line, except for lists."""
    count, given = setting.count, len(written.words)
    report.add(
        "bad-count" if fatal else "wrong-count",
        place_of(entry, written, 0),
        service=service,
        name=setting.name,
        wanted="at least one value" if count < 0 else "one value" if count == 1 else f"{count} values",
        given=given or "none",
        syntax=setting.syntax,
    )
    if fatal:
        block.fail(setting.name)


def _grown(
    setting: Setting, operator: str, value: Any, block: Block, base: Block, spots: tuple[Place, ...], *, adds: bool
) -> Any:
    """A set after one more line. Of a list, whose step goes to `block` with the places of the words where each counts,
    the line's words: they stand for it until `Block.settle`."""
    field = setting.key
    fresh = operator == "=" and not adds
    known = field in block.values
    if isinstance(value, frozenset):
        start = frozenset() if fresh else block.values[field] if known else frozenset()
        if not known and operator != "=":
            start = base.values.get(field, start)
        return start - value if operator == "-=" else start | value
    if fresh or not known:
        begins = not known and operator != "=" and field in base.values
        block.growing[field] = [(True, base.values[field], base.spots.get(field, ()))] if begins else []
    block.growing[field].append((operator != "-=", value, spots if setting.located else ()))
    return value


def _say_again(
    entry: Entry, written: Written, setting: Setting, block: Block, report: Report, service: str | None
) -> None:
    """Report a second `=` on a list: in xinetd a service loses the first one, and of two binds the second."""
    if setting.field == "bind":
        place = block.places["bind"]
        report.add("bind-adds", _name_place(entry, written), service=service, name=setting.name, line=place.line)
    elif service is not None and not setting.appends:
        place = block.places[setting.name]
        report.add("list-replaced", _name_place(entry, written), service=service, name=setting.name, line=place.line)


def _say_effect(
    entry: Entry, written: Written, setting: Setting, block: Block, report: Report, service: str | None
) -> None:
    """Report values that this release reads but does not act on."""
    for index, word in enumerate(written.words):
        canonical = word.upper()
        whole = f"{setting.name} = {shown(canonical)}"
        if setting.refused is ANY or canonical in setting.refused:
            report.add(
                "not-started",
                place_of(entry, written, index),
                service=service,
                name=setting.name,
                what=f"the attribute {setting.name}" if setting.refused is ANY else whole,
                remedy=REMEDIES[setting.name],
            )
            block.fail(setting.name)
        elif (setting.unused is ANY or canonical in setting.unused) and written.operator != "-=":
            report.add(
                "not-implemented",
                place_of(entry, written, index),
                service=service,
                what=f"the attribute {setting.name}" if setting.unused is ANY else whole,
            )
        else:
            continue
        if setting.unused is ANY or setting.refused is ANY:
            return


def _without_comment(entry: Entry, written: Written, setting: Setting, report: Report, service: str | None) -> Written:
    """The line without a ` # comment` at its end. xinetd has no such comments: it would count the words and
    ignore the line, and with it a limit or an access list."""
    for index, word in enumerate(written.words):
        if word[0] != "#":
            continue
        place = place_of(entry, written, index)
        if setting.free_text:
            report.add("hash-in-arguments", place, service=service, name=setting.name)
            return written
        kept = written.words[:index]
        report.add("trailing-comment", place, service=service, name=setting.name, value=shown(" ".join(kept)))
        return written._replace(words=kept)
    return written


def _name_place(entry: Entry, written: Written) -> Place:
    """The place of the attribute's name."""
    text = written.text
    return Place(entry.file, written.line, len(text) - len(text.lstrip()) + 1 if text else written.column)


def _instead(name: str) -> str:
    return "write `disable = no` or `disable = yes` in a service" if name in ("enabled", "disabled") else "move it"


@lru_cache(maxsize=1024)
def _remedy(name: str, toml: bool) -> str:
    """The nearest attribute, for somebody who mistyped one."""
    if len(name) <= 40:
        known = [row.name for row in SETTINGS.values() if toml or not row.toml_only]
        near = get_close_matches(name, known, 1, 0.7)
        if near:
            return f"perhaps {near[0]} is meant"
    return "remove it"
