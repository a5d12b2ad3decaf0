"""The counts on the Board, compared with the slots: the slots are the truth, and the counts are made of them again."""

from __future__ import annotations

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog


def check_counts(board: Board, messages: DaemonLog) -> None:
    """Compare the counts with the slots while no process changes them; after a difference count again."""
    quiet = board.close_gate(set())
    right = board.consistent()
    if quiet and not right:
        board.recount()
    board.open_gate()
    if right:
        messages.info("Consistency check passed")
    elif quiet:
        messages.error("Consistency check: the counts differ from the running servers and are made anew")
    else:
        messages.warning("Consistency check: not possible, a process is stopped while it counts")
