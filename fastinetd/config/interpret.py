"""From written lines to values: each line of a block is checked against its row of the table in settings.py.

A block becomes a dict of values by `Setting.key`, and the place of each. No error stops the work: a line that cannot
be used is reported and left out, so that the lines after it are checked as well.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entry, Written, clip_value, place_of, places_of
from fastinetd.config.model import Place
from fastinetd.config.original import oddities_of
from fastinetd.config.settings import ANY, GROWS, ONCE, REMEDIES, SETTINGS, Scope, Setting
from fastinetd.config.values import BadValue

_Step = tuple[bool, tuple[str, ...], tuple[Place, ...]]
"""One line's change to a list: whether it adds words or takes them away, the words, the places of those it adds."""


class Block:
    """The values of one service, or of all `defaults`; `settle` must be called after the last line."""

    __slots__ = ("broken", "failed", "growing", "places", "seen", "spots", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}  # Setting.key -> value
        self.places: dict[str, Place] = {}  # attribute name -> place of its value
        self.spots: dict[str, tuple[Place, ...]] = {}  # Setting.key of a list -> place of each entry
        self.growing: dict[str, list[_Step]] = {}  # Setting.key of a list -> the changes that its lines make
        self.seen: set[str] = set()  # attributes of one value that have it; of several `defaults` the first counts
        self.failed: set[str] = set()  # attributes with an error of their own
        self.broken = False  # there are errors

    def mark_failed(self, name: str) -> None:
        """Remember that an error about the attribute `name` has been reported."""
        self.failed.add(name)
        self.broken = True

    def settle(self) -> None:
        """Make the values of the lists in `growing` out of their steps.

        Once for all lines: a blocklist may have a hundred thousand, and each would copy what the ones before it made.
        """
        for field, steps in self.growing.items():
            setting = SETTINGS[field]
            taken: set[object] = set()
            items: list[str] = []
            spots: list[Place] = []
            # From the last line to the first: a word is left out if a line after it takes away what it means.
            for adds, words, places in reversed(steps):
                if not adds:
                    taken.update(meaning for word in words for meaning in setting.parts_of(word).values())
                    continue
                for index in range(len(words) - 1, -1, -1):
                    kept = [words[index]] if not taken else _parts_left(setting, words[index], taken)
                    items += kept
                    if places:
                        spots += [places[index]] * len(kept)
            self.values[field] = tuple(reversed(items))
            if setting.located:
                self.spots[field] = tuple(reversed(spots))
        self.growing.clear()


def interpret_entry(
    entry: Entry, block: Block, base: Block, report: Report, *, defaults: bool = False, toml: bool = False
) -> None:
    """Add the values of `entry` to `block`, and report each line that cannot be used.

    `base` is the block of `defaults`: `+=` and `-=` start from its value where `block` has none yet. A repeated `=`
    on a list replaces the list in a service and adds to it in `defaults`, as in xinetd.
    """
    interpreter = _Interpreter(entry, block, base, report, defaults=defaults, toml=toml)
    for written in entry.lines:
        interpreter.take_line(written)


class _Interpreter:
    """Turns the lines of one entry into values of its block."""

    __slots__ = ("base", "block", "defaults", "entry", "report", "service", "toml")

    def __init__(
        self, entry: Entry, block: Block, base: Block, report: Report, *, defaults: bool, toml: bool
    ) -> None:
        self.entry = entry
        self.block = block
        self.base = base
        self.report = report
        self.service = None if defaults else entry.name  # as diagnostics name it
        self.defaults = defaults
        self.toml = toml

    def take_line(self, written: Written) -> None:
        """Add one line's value to the block, or report why the line is left out."""
        setting = self._find_setting(written)
        if setting is None:
            return
        if "#" in written.text and not self.toml:
            written = self._cut_comment(written, setting)
        if not self._is_usable(written, setting):
            return
        try:
            value = setting.parse(written.words)
        except BadValue as bad:
            self._report_value(written, setting, bad)
            return
        self._set_value(written, setting, value)
        if self.report.differences and not self.toml and written.operator != "-=":
            for index, what in oddities_of(setting.name, written.words, defaults=self.defaults):
                self.report.add("in-xinetd", place_of(self.entry, written, index), service=self.service, what=what)
        if setting.unused or setting.refused:
            self._report_effect(written, setting)

    def _find_setting(self, written: Written) -> Setting | None:
        """The row of a line's attribute; None, which is reported, when there is none or the line belongs elsewhere."""
        name = written.name
        setting = SETTINGS.get(name)
        if setting is None or (setting.toml_only and not self.toml):
            # Looking for the nearest name is slow: not for a diagnostic that would only be counted.
            remedy = "" if self.report.is_full("unknown-attribute") else _remedy_for_name(name, self.toml)
            self._add("unknown-attribute", written, name=clip_value(name), remedy=remedy)
            return None
        if setting.scope is not Scope.BOTH and (setting.scope is Scope.DEFAULTS) is not self.defaults:
            if self.defaults:
                self._add("not-in-defaults", written, name=name)
            else:
                switch = name in ("enabled", "disabled")
                remedy = "write `disable = no` or `disable = yes` in a service" if switch else "move it"
                self._add("only-in-defaults", written, name=name, remedy=remedy)
            return None
        return setting

    def _is_usable(self, written: Written, setting: Setting) -> bool:
        """Whether operator and number of words suit the attribute, and the line may set it; if not, it is reported."""
        name, count = setting.name, setting.count
        if count != GROWS:
            if name in self.block.seen:
                if name != "log_type" or not self.defaults:
                    self._add("already-set", written, name=name)
                    return False
                self._add("log-type-again", written, name=name)
            if written.operator != "=":
                self._add("wrong-operator", written, name=name, operators="`=`")
                return False
            if count != ONCE and len(written.words) != count:
                self._report_count(written, setting, fatal=self.toml)
                return False
            self.block.seen.add(name)
        elif written.operator not in setting.operators:
            self._add("cannot-take-away", written, name=name)
            self.block.mark_failed(name)
            return False
        if not written.words and not setting.optional:
            # In xinetd bind is a single value, and an empty one of those does no harm.
            self._report_count(written, setting, fatal=self.toml or setting.field != "bind")
            return False
        return True

    def _set_value(self, written: Written, setting: Setting, value: Any) -> None:
        """Enter a line's value, and its place, into the block."""
        block, field, name = self.block, setting.key, setting.name
        if setting.count == GROWS:
            if written.operator == "=" and block.values.get(field):
                self._report_repetition(written, setting)
            value = self._change_list(written, setting, value)
        block.values[field] = value
        block.places[name] = Place(self.entry.file, written.line, written.column)
        if field in SETTINGS and name != field:  # `interface` is bind: whoever looks for either finds the line
            block.places.setdefault(field, block.places[name])

    def _change_list(self, written: Written, setting: Setting, value: Any) -> Any:
        """The value of a set or a list after one more line.

        A list's change goes to `Block.growing`, and the words of the line stand for its value until `Block.settle`.
        """
        field, operator, block, base = setting.key, written.operator, self.block, self.base
        fresh = operator == "=" and not (setting.appends or self.defaults)
        known = field in block.values
        if isinstance(value, frozenset):
            start = frozenset() if fresh else block.values[field] if known else frozenset()
            if not known and operator != "=":
                start = base.values.get(field, start)
            return start - value if operator == "-=" else start | value
        if fresh or not known:
            begins = not known and operator != "=" and field in base.values
            block.growing[field] = [(True, base.values[field], base.spots.get(field, ()))] if begins else []
        spots = places_of(self.entry, written) if setting.located else ()
        block.growing[field].append((operator != "-=", value, spots))
        return value

    def _cut_comment(self, written: Written, setting: Setting) -> Written:
        """The line without a ` # comment` at its end, which is reported.

        xinetd has no such comments: it would count the words and ignore the line, and with it a limit or an access
        list.
        """
        for index, word in enumerate(written.words):
            if word[0] != "#":
                continue
            place = place_of(self.entry, written, index)
            if setting.free_text:
                self.report.add("hash-in-arguments", place, service=self.service, name=setting.name)
                return written
            kept = written.words[:index]
            value = clip_value(" ".join(kept))
            self.report.add("trailing-comment", place, service=self.service, name=setting.name, value=value)
            return written._replace(words=kept)
        return written

    def _add(self, code: str, written: Written, **values: object) -> None:
        """Report `code` at the place of the line's attribute name."""
        text = written.text
        column = len(text) - len(text.lstrip()) + 1 if text else written.column
        self.report.add(code, Place(self.entry.file, written.line, column), service=self.service, **values)

    def _report_count(self, written: Written, setting: Setting, *, fatal: bool) -> None:
        """Report a wrong number of values: xinetd ignores such a line, except for lists."""
        count, given = setting.count, len(written.words)
        self.report.add(
            "bad-count" if fatal else "wrong-count",
            place_of(self.entry, written, 0),
            service=self.service,
            name=setting.name,
            wanted="at least one value" if count < 0 else "one value" if count == 1 else f"{count} values",
            given=given or "none",
            syntax=setting.syntax,
        )
        if fatal:
            self.block.mark_failed(setting.name)

    def _report_value(self, written: Written, setting: Setting, bad: BadValue) -> None:
        """Report a word that the attribute's parser refuses."""
        self.report.add(
            "bad-default" if self.defaults else "bad-value",
            place_of(self.entry, written, bad.index),
            service=self.service,
            name=setting.name,
            value=clip_value(written.words[bad.index]),
            problem=bad.problem,
            syntax=setting.syntax_in(toml=self.toml),
        )
        self.block.mark_failed(setting.name)

    def _report_repetition(self, written: Written, setting: Setting) -> None:
        """Report a second `=` on a list: in xinetd a service loses the first one, and of two binds the second."""
        places = self.block.places
        if setting.field == "bind":
            self._add("bind-adds", written, name=setting.name, line=places["bind"].line)
        elif not self.defaults and not setting.appends:
            self._add("list-replaced", written, name=setting.name, line=places[setting.name].line)

    def _report_effect(self, written: Written, setting: Setting) -> None:
        """Report values that this release reads but does not act on."""
        for index, word in enumerate(written.words):
            canonical = word.upper()
            place = place_of(self.entry, written, index)
            whole = f"{setting.name} = {clip_value(canonical)}"
            if setting.refused is ANY or canonical in setting.refused:
                what = f"the attribute {setting.name}" if setting.refused is ANY else whole
                remedy = REMEDIES[setting.name]
                self.report.add(
                    "not-started", place, service=self.service, name=setting.name, what=what, remedy=remedy
                )
                self.block.mark_failed(setting.name)
            elif (setting.unused is ANY or canonical in setting.unused) and written.operator != "-=":
                what = f"the attribute {setting.name}" if setting.unused is ANY else whole
                self.report.add("not-implemented", place, service=self.service, what=what)
            else:
                continue
            if setting.unused is ANY or setting.refused is ANY:
                return


def _parts_left(setting: Setting, word: str, taken: set[object]) -> list[str]:
    """What is left of a word of a list, from its last part to its first, without the meanings in `taken`."""
    parts = setting.parts_of(word)
    left = [part for part, meaning in reversed([*parts.items()]) if meaning not in taken]
    return [word] if len(left) == len(parts) else left


@lru_cache(maxsize=1024)
def _remedy_for_name(name: str, toml: bool) -> str:
    """The remedy for an attribute that does not exist: the nearest name that does, or to remove it."""
    if len(name) <= 40:
        known = [row.name for row in SETTINGS.values() if toml or not row.toml_only]
        near = get_close_matches(name, known, 1, 0.7)
        if near:
            return f"perhaps {near[0]} is meant"
    return "remove it"
