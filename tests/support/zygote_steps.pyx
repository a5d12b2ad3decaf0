"""The zygotes of an acceptor that does nothing but what a test says, one step after another."""

from fastinetd.core.program cimport Program
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport Servers
from fastinetd.pools.zygotes cimport Zygotes
from fastinetd.system.linux cimport now_monotonic


cdef class ZygoteSteps:
    """One pool, in this process. Nothing is heard of its processes: neither what they say nor that they end."""

    cdef Program program
    cdef Zygotes zygotes

    def __init__(self, Reception reception, Program program):
        self.program = program
        self.zygotes = Zygotes(Servers(reception), 1, 0)
        self.zygotes.add_pool(0, &program.target, 1)

    def look_after(self) -> None:
        """Do whatever is due: a zygote is started where there is none."""
        self.zygotes.do_what_is_due()

    def replace(self) -> None:
        """Give the zygote up."""
        self.zygotes.replace_all()

    def due_within(self, double seconds) -> bool:
        """Whether it is looked after again so soon, though nothing happens."""
        return self.zygotes.due() <= now_monotonic() + <unsigned long long> (seconds * 1e9)
