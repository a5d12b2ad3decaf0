"""The words of the Board's layout for Python: enums of verdicts, states, records, methods and ends (layout.pxd)."""

from fastinetd.core.rates cimport RATE_CELLS


def _words_of_refusals():
    """Verdict -> word; raises ImportError where a refusal has none."""
    cdef const char *word
    words = {}
    for verdict in Verdict:
        word = refusal_word(verdict)
        if word != NULL:
            words[verdict] = word.decode()
        elif verdict not in (ADMIT, ASK):
            raise ImportError(f"{verdict.name} has no word: refusal_word in fastinetd/core/layout.pxd must have one")
    return words


def require_room(enum, room):
    """Raise ImportError where an enum has a value for which the Counters have no place among the `room` of an array."""
    if max(enum) >= room:
        raise ImportError(f"{enum.__name__} has {max(enum) + 1} values: fastinetd/core/layout.pxd has room for {room}")


require_room(Verdict, REASONS)
require_room(Status, STATUSES)
require_room(Method, METHODS)

REFUSALS = _words_of_refusals()

MOST_STARTS = RATE_CELLS
"""The most starts of a rate: the Board has room for the times of so many."""
