"""Starts, and ends of servers, at times and of kinds that a test chooses and no process could be made to have."""

from fastinetd.core.admit cimport Accounts, free_slot, record_end, record_end_unserved
from fastinetd.core.board cimport Board
from fastinetd.core.limits cimport rate_cells
from fastinetd.core.rates cimport RATE_CELLS, Payment, rate_give, rate_take
from fastinetd.system.linux cimport CLD_KILLED, u32, u64


cdef class Rate:
    """The rate of a row."""

    cdef Board board
    cdef u32 row

    def __init__(self, Board board, u32 row):
        self.board, self.row = board, row

    def take(self, u64 now) -> tuple | None:
        """Use up a start at the time `now`: the payment, as (time, cell, what stood in the cell); None if the rate
        allows no start."""
        cdef Payment payment
        if not rate_take(&self.board.view.rows[self.row].rate, rate_cells(&self.board.view, self.row), now, &payment):
            return None
        return payment.at, payment.cell, payment.before

    def give(self, u64 at, u32 cell, u64 before) -> None:
        """Give a payment back."""
        cdef Payment payment
        payment.at, payment.before, payment.cell = at, before, cell if cell < RATE_CELLS else 0
        rate_give(&self.board.view.rows[self.row].rate, rate_cells(&self.board.view, self.row), &payment)


def end_as(Accounts accounts, u32 slot, int code, int status, u64 user_us, u64 system_us) -> None:
    """The slot's server has ended, as waitid(2) describes it; the slot becomes free."""
    record_end(&accounts.ledger, slot, code, status, user_us, system_us)
    free_slot(&accounts.ledger, slot)


def lose_server(Accounts accounts, u32 slot, int number) -> None:
    """The slot's server, reaped already, was ended by signal `number` before it had its connection."""
    record_end_unserved(&accounts.ledger, slot, CLD_KILLED, number)
