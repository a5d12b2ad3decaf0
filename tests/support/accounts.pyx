"""A process's ledger in the hands of a test or benchmark: slots taken and given back without servers, step by step."""

from fastinetd.core.admit cimport (
    close_ledger, drop_slot, free_slot, judge_peer, open_ledger, record_end, record_end_unserved, take_slot,
)
from fastinetd.core.board cimport Board
from fastinetd.core.client cimport Client, make_client
from fastinetd.core.layout cimport ADMIT, Verdict
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.limits cimport rate_cells
from fastinetd.core.program cimport Program
from fastinetd.core.rates cimport RATE_CELLS, Payment, rate_give, rate_take
from fastinetd.system.linux cimport CLD_KILLED, u32, u64


cdef class Accounts:
    """The ledger of a section."""

    cdef Board board
    cdef Ledger ledger

    def __init__(self, Board board, int section):
        self.board = board
        if open_ledger(&self.ledger, &board.view, section):
            raise MemoryError

    def __dealloc__(self):
        close_ledger(&self.ledger)

    def admit(self, Program program, bytes address, int port=0) -> tuple:
        """Let a client in whose address is 4 or 16 bytes, or unknown: (verdict, slot); the slot is -1 when refused."""
        cdef Client client
        cdef u32 slot = 0
        make_client(&client, -1, address, port)
        cdef Verdict verdict = judge_peer(self.ledger.view, &program.target, &client.peer)
        if verdict == ADMIT:
            verdict = take_slot(&self.ledger, &program.target, &client, &slot)
        return verdict, (slot if verdict == ADMIT else -1)

    def drop(self, u32 slot) -> None:
        """Give back a slot without a server."""
        drop_slot(&self.ledger, slot)

    def end_as(self, u32 slot, int code, int status, u64 user_us, u64 system_us) -> None:
        """The slot's server has ended, as waitid(2) describes it; the slot becomes free."""
        record_end(&self.ledger, slot, code, status, user_us, system_us)
        free_slot(&self.ledger, slot)

    def lose_server(self, u32 slot, int number) -> None:
        """The slot's server, reaped already, was ended by signal `number` before it had its connection."""
        record_end_unserved(&self.ledger, slot, CLD_KILLED, number)


cdef class Rate:
    """The rate of a row, at times that a test chooses."""

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
        return payment.stamp, payment.cell, payment.before

    def give(self, u64 at, u32 cell, u64 before) -> None:
        """Give a payment back."""
        cdef Payment payment
        payment.stamp, payment.before, payment.cell = at, before, cell if cell < RATE_CELLS else 0
        rate_give(&self.board.view.rows[self.row].rate, rate_cells(&self.board.view, self.row), &payment)
