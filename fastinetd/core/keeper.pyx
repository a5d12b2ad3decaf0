"""The supervisor's hand in starting the servers of wait services, and in ending what it has started or adopted."""

from fastinetd.core.admit cimport (
    begin_rate_wait, close_ledger, drop_slot, end_rate_wait, judge_peer, open_ledger, record_refusal, record_start,
    take_slot,
)
from fastinetd.core.board cimport Board
from fastinetd.core.client cimport Client, Peer, make_client, make_peer
from fastinetd.core.layout cimport ADMIT, ASK, RATE, Counters, Verdict, View
from fastinetd.core.ledger cimport Ledger, own_counters
from fastinetd.core.program cimport Program
from fastinetd.core.servers cimport end_server, start_server
from fastinetd.system.linux cimport u32


cdef class Keeper:
    """The supervisor's hand: starts the servers of wait services, and ends what it started or adopted."""

    cdef Board board
    cdef Ledger ledger

    def __init__(self, Board board, int section):
        self.board = board
        if open_ledger(&self.ledger, &board.view, section):
            raise MemoryError

    def __dealloc__(self):
        close_ledger(&self.ledger)

    def start(self, Program program, int fd, bytes address=b"", int port=0, bint vouched=False) -> tuple:
        """Start a wait service's server on its socket `fd` (borrowed), for a peer whose address (4 or 16 bytes) may be
        known; `vouched`: the doorman has admitted its name. Returns (verdict, slot, pid); the slot is -1 and the pid a
        negative errno when the start failed."""
        cdef Client client
        cdef u32 slot = 0
        cdef View *view = &self.board.view
        cdef Counters *counters = own_counters(&self.ledger, program.target.row)
        cdef int number
        make_client(&client, fd, address, port)
        cdef Verdict verdict = judge_peer(view, &program.target, &client.peer)
        if verdict == ASK and vouched:
            verdict = ADMIT
        if verdict == ADMIT:
            verdict = take_slot(&self.ledger, &program.target, &client, &slot)
        if verdict == ADMIT and view.rows[program.target.row].rate_wait_counted_to:
            counters.rate_waits += 1
        if verdict != RATE:
            end_rate_wait(&self.ledger, program.target.row)
        if verdict != ADMIT:
            return verdict, -1, 0
        counters.accepted += 1
        number = start_server(&self.ledger, &program.target, &client, slot, True)
        if number:
            return verdict, -1, -number
        return verdict, slot, view.slots[slot].pid

    def begin_rate_wait(self, u32 row) -> None:
        """What came for a wait service waits for its rate."""
        begin_rate_wait(&self.ledger, row)

    def end_rate_wait(self, u32 row) -> None:
        """End a wait for the rate: no datagram and no client of a wait service waits for it any more."""
        end_rate_wait(&self.ledger, row)

    def refuse(self, Program program, verdict: Verdict, bytes address=b"", int port=0) -> None:
        """Count and record a refusal that `start` returned."""
        cdef Peer peer
        make_peer(&peer, address, port)
        own_counters(&self.ledger, program.target.row).accepted += 1
        record_refusal(&self.ledger, &program.target, &peer, verdict)

    def drop(self, u32 slot) -> None:
        """Give back a slot without a server."""
        drop_slot(&self.ledger, slot)

    def record_start(self, Program program, u32 slot) -> None:
        """An adopted server whose start its dead acceptor had not recorded."""
        record_start(&self.ledger, &program.target, slot, -1)

    def end(self, u32 slot) -> bool:
        """Account for and reap the slot's server if it has ended (or is gone without a trace); False while it runs."""
        return end_server(&self.ledger, slot)
