"""From entries to a Config: defaults are merged in, each service is checked as a whole, records are made.

`defaults` reach every service of the configuration, wherever in the files they stand. A service with an error
goes to `Config.broken` as far as it could be read, every other one to `Config.services`: an error in one service
harms no other. Bad values in `defaults` make the whole configuration unusable (`Config.fatal`), because access lists
and limits are often written there.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entries, Entry, clip_value
from fastinetd.config.interpret import Block, interpret_entry
from fastinetd.config.model import Config, Disabled, Family, Rate, Service
from fastinetd.config.settings import ANY, SETTINGS, Inherit, Scope
from fastinetd.config.whole import complete_service

DEFAULT_RATE = Rate(50, 1.0, 10)
"""The rate of a service when neither it nor `defaults` has `cps`."""

_PARTS = frozenset(setting.key for setting in SETTINGS.values() if setting.part_of is not None)
"""Attributes that are no fields of Service under their own name; their values become part of one, or of none."""

_RLIMITS = tuple(setting.key for setting in SETTINGS.values() if setting.part_of == "rlimits")


def build_config(
    entries: Entries, source: str, report: Report, *, toml: bool = False, beside: Config | None = None
) -> Config:
    """The Config of all entries, without `files`; errors go to `report`.

    `source` is the file that was named, `toml` whether its format is TOML, `beside` the services of an inetd.conf that
    is read with an xinetd.conf: `defaults` hold for these too.
    """
    defaults = Block()
    for entry in entries.defaults:
        interpret_entry(entry, defaults, Block(), report, defaults=True, toml=toml)
    defaults.settle()
    _refuse_path(defaults, report)
    wanted = _Choice(defaults)
    services: list[Service] = []
    broken: list[Service] = []
    disabled: list[Disabled] = []
    for entry in entries.services:
        service_id = _find_id(entry, toml)
        how = "(disable = yes)" if entry.disabled else wanted.how_disabled(service_id)
        if how:
            wanted.meet(service_id)
            disabled.append(Disabled(service_id, entry.place, how))
            continue
        block = Block()
        interpret_entry(entry, block, defaults, report, toml=toml)
        block.settle()
        if block.values.get("disable"):
            disabled.append(Disabled(service_id, entry.place, "(disable = yes)"))
            continue
        service, sound = _make_service(entry, block, defaults, report, toml=toml)
        (services if sound and not block.broken and not entry.broken else broken).append(service)
        wanted.meet(service.id)
    if beside is not None:
        for service in beside.services:
            wanted.meet(service.id)
            if how := wanted.how_disabled(service.id):
                disabled.append(Disabled(service.id, service.place, how))
            else:
                services.append(_inherit_defaults(service, defaults))
        broken += beside.broken
    wanted.report_unknown(report)
    # A stray line in the defaults of xinetd.conf is only left out, as in xinetd; TOML has no such lines.
    fatal = defaults.broken or (toml and any(entry.broken for entry in entries.defaults))
    return Config(source, tuple(services), fatal=fatal, broken=tuple(broken), disabled=tuple(disabled))


def _refuse_path(defaults: Block, report: Report) -> None:
    """Report a path in the `bind` of `defaults`, which would be the unix socket of every service."""
    for text, place in zip(defaults.values.get("bind", ()), defaults.spots.get("bind", ())):
        if "/" in text:
            syntax = SETTINGS["interface"].syntax
            report.add("bad-default", place, name="bind", value=clip_value(text), problem="", syntax=syntax)
            defaults.mark_failed("bind")


class _Choice:
    """Which services `enabled` and `disabled` of `defaults` leave; ids may be in any case, as in xinetd."""

    def __init__(self, defaults: Block) -> None:
        """Takes the places of the ids out of `defaults`: they are no service's."""
        enabled = defaults.values.get("enabled")
        self._enabled = None if enabled is None else frozenset(map(str.lower, enabled))
        self._disabled = frozenset(map(str.lower, defaults.values.get("disabled", ())))
        self._written = [
            (name, id_, place)
            for name in ("enabled", "disabled")
            for id_, place in zip(defaults.values.get(name, ()), defaults.spots.pop(name, ()))
        ]
        self._met: set[str] = set()  # the ids of all services, in lower case

    def meet(self, id_: str) -> None:
        """Remember that there is a service with this id."""
        self._met.add(id_.lower())

    def how_disabled(self, id_: str) -> str:
        """Which attribute switches the service off, to complete `is disabled`; "" when none does."""
        if id_.lower() in self._disabled:
            return "by `disabled` of `defaults`"
        if self._enabled is not None and id_.lower() not in self._enabled:
            return "by `enabled` of `defaults`, which does not name it"
        return ""

    def report_unknown(self, report: Report) -> None:
        """Report words of `enabled` and `disabled` that are the id of no service met."""
        for name, id_, place in self._written:
            if id_.lower() not in self._met:
                report.add("unknown-id", place, name=name, value=clip_value(id_))


def _find_id(entry: Entry, toml: bool) -> str:
    """The service's id, read before its block is interpreted: a disabled block is not."""
    for written in entry.lines:
        words = written.words
        if written.name != "id" or written.operator != "=" or not words:
            continue
        if len(words) == 1 or (not toml and words[1][0] == "#"):  # `interpret_entry` leaves the comment out, too
            return words[0]
    return entry.name


def _make_service(entry: Entry, block: Block, defaults: Block, report: Report, *, toml: bool) -> tuple[Service, bool]:
    """The record of a service, and whether the service can be started; why not is reported."""
    own = block.values
    values: dict[str, Any] = {**defaults.values, **own} if defaults.values else own
    unix = own.get("protocol") == "unix"
    if unix and "bind" not in own:
        values.pop("bind", None)  # `defaults` have addresses there, and this service listens on a path
    name = own.get("name", entry.name)
    service_id = own.get("id", entry.name)
    sound = complete_service(entry, block, values, name, report, toml=toml)
    fields = {key: value for key, value in values.items() if key not in _PARTS}
    fields.setdefault("rate", DEFAULT_RATE)
    fields["family"] = _choose_family(values)
    server, args = values.get("server"), values.get("server_args", ())
    if "NAMEINARGS" in values.get("flags", ()):
        if not args and server is not None:
            report.add("no-name-in-args", block.places.get("flags", entry.place), service=entry.name)
        fields["argv"] = args or ((server.rpartition("/")[2],) if server else ())
    elif server is not None:
        fields["argv"] = (server.rpartition("/")[2], *args)
    limits = {key.removeprefix("rlimit_"): values[key] for key in _RLIMITS if values.get(key)}
    if limits:
        fields["rlimits"] = MappingProxyType(limits)
    places = {**defaults.places, **block.places} if defaults.places else block.places
    fields["spots"] = MappingProxyType({**defaults.spots, **block.spots} if defaults.spots else block.spots)
    fields["id"], fields["name"] = service_id, name
    fields["inherited"] = frozenset(defaults.places.keys() - block.places.keys())
    return Service(place=entry.place, places=MappingProxyType(places), **fields), sound


def _choose_family(values: dict[str, Any]) -> Family:
    """The address family that `protocol`, `flags`, `v6only` and `bind` ask for."""
    if values.get("protocol") == "unix":
        return Family.UNIX
    flags, v6only = values.get("flags", frozenset()), values.get("v6only", False)
    if "IPv6" in flags:
        if "IPv4" in flags or not v6only:
            return Family.BOTH
        return Family.IPV6
    if "IPv4" in flags:
        return Family.IPV4
    # Without a flag v6only can only mean an IPv6 socket, unless bind names something that may be IPv4.
    if v6only and all(":" in address for address in values.get("bind", ())):
        return Family.IPV6
    return Family.AUTO


_INHERITED = {
    setting.key: setting.inherit
    for setting in SETTINGS.values()
    if setting.scope is Scope.BOTH and setting.inherit is not Inherit.NEVER and setting.unused is not ANY
}
"""Attributes that a service of inetd.conf inherits from the `defaults` of an xinetd.conf -> how."""

_EMPTY = {field.name: field.default for field in dataclasses.fields(Service)}
"""Fields of Service -> the value of one that is not set."""


def _inherit_defaults(service: Service, defaults: Block) -> Service:
    """A service of inetd.conf with what it inherits from the `defaults` of an xinetd.conf."""
    changed: dict[str, Any] = {"rate": DEFAULT_RATE}  # in xinetd the rate of inetd.conf's dialect does not hold
    for field in _INHERITED.keys() & defaults.values.keys():
        unwritten = field not in service.places and getattr(service, field) == _EMPTY[field]
        if unwritten or _INHERITED[field] is Inherit.ALWAYS:
            changed[field] = defaults.values[field]
    places = MappingProxyType({**defaults.places, **service.places})
    spots = MappingProxyType({**defaults.spots, **service.spots})
    inherited = frozenset(defaults.places.keys() - service.places.keys())
    return dataclasses.replace(service, places=places, spots=spots, inherited=inherited, **changed)
