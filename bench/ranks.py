"""Whether two handfuls of samples differ: the rank test of Wilcoxon, Mann and Whitney, exact and with ties."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value, so that the middle rank that equal values share is a whole number."""
    below = dict.fromkeys(values, 0)
    counts, seen = Counter(values), 0
    for value in sorted(counts):
        below[value] = seen
        seen += counts[value]
    return [2 * below[value] + counts[value] + 1 for value in values]


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """How often chance alone, dealing all these samples into two hands, sets the hands' rank sums at least
    this far apart. Counted over every deal; 1.0 when a hand is empty."""
    if not one or not other:
        return 1.0
    ranks = doubled_ranks([*one, *other])
    size = len(one)
    deals: list[Counter[int]] = [Counter() for _ in range(size + 1)]  # [cards] -> rank sum -> number of deals
    deals[0][0] = 1
    for rank in ranks:
        for cards in range(size, 0, -1):
            for total, number in deals[cards - 1].items():
                deals[cards][total + rank] += number
    middle = size * (len(ranks) + 1)
    seen = abs(sum(ranks[:size]) - middle)
    far = sum(number for total, number in deals[size].items() if abs(total - middle) >= seen)
    return far / math.comb(len(ranks), size)


def best_p(one: int, other: int) -> float:
    """The smallest p that hands of these sizes can have: that of hands that do not overlap."""
    return min(1.0, 2 / math.comb(one + other, one))
