"""The states of a wait service's socket, and every way from one to another.

Theory. Servers are given the socket itself and keep it until they exit; `N` is how many of them may run at once. The
supervisor watches the socket only while it may have to start one.

    state        event          next       action
    IDLE         readable       GRACE      start a server; FULL if one is all there may be
    IDLE         readable       IDLE       refuse one datagram or client
    IDLE GRACE   start          COOLDOWN   the rate is used up, the start failed, or all N run on other sockets
    IDLE SHARED  woken in vain  COOLDOWN   again and again, and nothing was there
    IDLE GRACE   start          ASKING     the sender's name decides: ask the doorman
    ASKING       answer         as a start from IDLE, or refused; GRACE: no server for it; as WATCHED if it is taken
    SHARED       readable       GRACE      see whether the servers take it
    GRACE        look           SHARED     the queue is empty
    GRACE        look           GRACE      not yet over; or over: start one server more
    GRACE        look           FULL       over: start the last server
    any but GONE server ends    GRACE      something waits, others run: another server in its place, at once
    any but GONE server ends    WATCHED    the queue is empty, or no server is left
    any but GONE server ends    COOLDOWN   it did not read
    COOLDOWN     pause over     WATCHED
    any          N changes      WATCHED    only from SHARED, GRACE and FULL
    any          withdraw       GONE       leave the socket alone for good: the service is gone, or the last server has
                                           spoilt the socket and another is opened

    WATCHED is IDLE without servers, SHARED with fewer than N, FULL with N or, after a reload, more. Two ends change
    nothing but the number: while ASKING, and an end without having read while in COOLDOWN.

Rules of this file: a way that is not in TRANSITIONS is a fault of the machine's (wait.py), which says so.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The state of a wait socket."""

    IDLE = "idle"
    ASKING = "asking"
    GRACE = "grace"
    SHARED = "shared"
    FULL = "full"
    COOLDOWN = "cooldown"
    GONE = "gone"


WATCHING = frozenset({State.IDLE, State.SHARED})
"""States in which the supervisor watches the socket."""

WATCHED = frozenset({State.IDLE, State.SHARED, State.FULL})
"""Where a machine settles that has nothing to wait for but its socket and its servers."""

TRANSITIONS = frozenset(
    {
        *((State.IDLE, state) for state in (State.ASKING, State.GRACE, State.FULL, State.COOLDOWN)),
        *((State.ASKING, state) for state in (*WATCHED, State.GRACE, State.COOLDOWN)),
        *((State.GRACE, state) for state in (*WATCHED, State.ASKING, State.GRACE, State.COOLDOWN)),
        *((State.SHARED, state) for state in (State.IDLE, State.GRACE, State.FULL, State.COOLDOWN)),
        *((State.FULL, state) for state in (State.IDLE, State.SHARED, State.GRACE, State.COOLDOWN)),
        *((State.COOLDOWN, state) for state in (*WATCHED, State.GRACE)),
        *((state, State.GONE) for state in State),
    }
)
