"""The table of roles, by what a user sees of each rule."""

from __future__ import annotations

import pytest

from fastinetd.plan.model import Mode
from fastinetd.supervisor.role_specs import ROLES, RoleSpec, sections_of_generation
from support.generations import of_mode

SPECS = {spec.kind: spec for spec in ROLES}
SIGNALLED = 9  # a wait status: ended by SIGKILL


def those(rule: str) -> set[str]:
    """The kinds that a rule holds of."""
    return {kind for kind, spec in SPECS.items() if getattr(spec, rule)}


def test_only_who_starts_programs_for_users_stays_root() -> None:
    assert those("keeps_privileges") == {"acceptor"}


def test_whose_servers_live_on() -> None:
    """Sessions of built-in services end with the relay."""
    assert those("starts_servers") == {"acceptor"}


def test_a_reload_is_refused_where_clients_would_not_be_accepted() -> None:
    """Names of clients and metrics may come a little later."""
    assert those("must_be_ready") == {"acceptor", "relay"}


@pytest.mark.parametrize("mode", Mode)
def test_each_service_is_accepted_by_one_kind(mode: Mode) -> None:
    """But for wait services, whose servers accept."""
    accepting = [spec.kind for spec in ROLES if spec.may_accept(of_mode(mode))]
    assert len(accepting) == (mode is not Mode.WAIT)


def test_who_accepts_clients_counts_them() -> None:
    assert those("must_be_ready") <= those("has_section")


def test_names_are_answered_until_the_last_client_has_left() -> None:
    assert those("leaves_last") == {"doorman"}


def test_a_reload_that_changes_nothing_replaces_pools_where_there_are_any() -> None:
    assert those("has_pools") == {"acceptor"}


@pytest.mark.parametrize("spec", ROLES, ids=SPECS)
def test_what_ended_badly_has_crashed(spec: RoleSpec) -> None:
    assert spec.crashed(1 << 8)
    assert spec.crashed(SIGNALLED)


def test_sessions_of_built_in_services_end_with_their_relay() -> None:
    """So it has no end after which nothing is to be counted out. Servers of an acceptor live on."""
    assert {kind for kind, spec in SPECS.items() if spec.crashed(0)} == {"relay"}


def test_titles_as_ps_shows_them() -> None:
    assert [spec.title(number) for spec in ROLES for number in spec.numbers(2)] == [
        "acceptor 1", "acceptor 2", "relay", "doorman", "monitor",
    ]  # fmt: skip


@pytest.mark.parametrize("acceptors", [1, 2, 64])
def test_room_on_the_board_for_all_who_count(acceptors: int) -> None:
    """Too little would keep a generation from starting, as each reload needs another."""
    assert sections_of_generation(acceptors) == acceptors + 1
