# mypy: disable-error-code="untyped-decorator, no-untyped-call, no-untyped-def"
"""Wasserstein distances between many persistence diagrams, exactly but for rounding.

Where every birth is 0, two matches that cross can be uncrossed at no cost, so the least sum
over the first i bars of one diagram and the first j of the other, deaths in descending order,
is the least of three: bars i and j match, or i goes to the diagonal, or j does. Of this table
a band along the main diagonal is enough: a way that goes d beside it leaves at least d bars of
each diagram, and leaving the d shortest of each already costs more than the way straight on.
Eight pairs of diagrams are done side by side, filled up with bars of length 0: these may be
left for nothing, so they change no bit. Longest bars that are equal match each other: any
other use of either costs as much or more.

Other diagrams take shortest augmenting paths (Jonker and Volgenant: Computing 1987, 38, 325)
over bars against bars, with the diagonal as one more column that has room for all. Costs are
in parts of the bottleneck distance, which moves every bar by 1 at most and some bar by 1 in
every matching: what then vanishes in a power does not show in the sum, and what costs more
than all bars at 1 is in no least matching, so that rounding of long bars hides no short move.

No loop over a range is left by `break`: numba would then count references of every array. Its
cache does not ask whether bottleneck.py has changed: touch this file then.
"""

import numpy as np
from numba import njit

from pipeline.kernels.bottleneck import by_deaths, by_endless, by_matching, sort
from pipeline.kernels.intrinsics import borrowed, sweep, sweep_squared

INF = np.inf
LANES = 8  # pairs of diagrams side by side
PARTS = 5  # of the numbers that sweep works on
# Between these no square of a difference that shows leaves the doubles: where the longest bars
# differ, they do so by 2^-54 of their length or more.
SMALL, LARGE = 2.0**-400, 2.0**400
SURELY = 1.000001  # more than rounding can add to a sum


@njit(nogil=True, cache=True)
def settle(starts, births, deaths, halves, finite):
    """Put bars of one half-length, of diagrams prepared for bottleneck, in order of birth.

    And those of one birth too in order of death, so that the order given shows nowhere.
    """
    for d in range(len(finite)):
        end = starts[d] + finite[d]
        ties(halves, births, deaths, halves, starts[d], end)
        k = starts[d]
        while k < end:
            same = run_of(halves, k, end)
            if same > k + 1:
                ties(births, deaths, births, births, k, same)
            k = same


@njit(nogil=True, cache=True)
def ties(keys, others, more, third, start, end):
    """Sort others, and more and third with them, descending, wherever keys are the same."""
    k = start
    while k < end:
        same = run_of(keys, k, end)
        if same > k + 1:
            sort(others, more, third, k, same)
        k = same


@njit(nogil=True, cache=True)
def run_of(keys, start, end):
    """Where the run of numbers the same as at start ends."""
    same = start + 1
    while same < end and keys[same] == keys[start]:
        same += 1
    return same


@njit(nogil=True, cache=True)
def power(x, order):
    """x to this power; x is not negative."""
    if order == 1:
        return x
    return x * x if order == 2 else x**order


@njit(nogil=True, cache=True)
def endless_sum(births, a, b, count, unit, order):
    """Sum of powers, in this unit, over the bars that never end, count before a and before b."""
    total = 0.0
    for k in range(1, count + 1):
        total += power(abs(births[a - k] - births[b - k]) / unit, order)
    return total


@njit(nogil=True, cache=True)
def half_band(work, leave, others, stride, size, straight):
    """How many of the last (shortest) bars of each diagram leave for no more than straight.

    leave, others: where in work leaving the first bar of either costs; size bars, stride apart.
    """
    d, total = 0, 0.0
    while d < size and total <= straight * SURELY:
        at = (size - 1 - d) * stride
        total += work[leave + at] + work[others + at]
        d += 1
    if total > straight * SURELY:
        d -= 1
    return max(d, 1)  # straight on, both bars of a pair may leave


@njit(nogil=True, cache=True)
def fill_lane(deaths, a, m, b, n, start, order, lane, size, work):
    """Lay out a pair for sweep, with start as its first sum; return the width of its band."""
    count = max(m, n)
    straight = start
    column, leave = size + 2 * LANES + lane, 2 * size + 2 * LANES + lane
    mine, mine_leave = 3 * size + lane, 4 * size + lane
    for k in range(count):
        x = deaths[a + k] if k < m else 0.0
        y = deaths[b + k] if k < n else 0.0
        at = k * LANES
        half, other = power(x / 2, order), power(y / 2, order)
        work[mine + at], work[mine_leave + at] = x, half
        work[column + at], work[leave + at] = y, other
        straight += min(power(abs(x - y), order), half + other)
    return half_band(work, mine_leave, leave, LANES, count, straight)


@njit(nogil=True, cache=True)
def fill_up(lane, filled, count, size, work):
    """Fill a pair of so many bars (filled) up to count, with bars of length 0."""
    for k in range(filled * LANES + lane, count * LANES, LANES):
        work[3 * size + k] = work[4 * size + k] = 0.0
        work[size + 2 * LANES + k] = work[2 * size + 2 * LANES + k] = 0.0


@njit(nogil=True, cache=True)
def sweep_all(count, width, squared, size, work):
    """The tables of eight pairs of count bars each, within a band; the sums end in the row.

    Column j of the table is at j + 1 in the row; before the first is one that no way reaches.
    """
    for k in range(LANES):
        work[k] = INF
        work[size + LANES + k] = work[2 * size + LANES + k] = 0.0
    for k in range(2 * LANES, (count + 2) * LANES):
        j = k // LANES - 1
        work[k] = work[k - LANES] + work[2 * size + k] if j <= width else INF
    for i in range(count):
        first, last = max(0, i + 1 - width) + 1, min(count, i + 1 + width) + 2
        if squared:
            sweep_squared(work, size, i, first, last)
        else:
            sweep(work, size, i, first, last)


@njit(nogil=True, cache=True)
def equal_bars(deaths, a, m, b, n):
    """How many of the longest bars are the same in both diagrams."""
    k = 0
    while k < m and k < n and deaths[a + k] == deaths[b + k]:
        k += 1
    return k


@njit(nogil=True, cache=True)
def by_band(births, deaths, a, m, b, n, ends, others, count, order, work):
    """Wasserstein distance, at any order, of the m bars at a and the n at b, born at 0.

    deaths in descending order; count bars that never end have their births before ends and
    before others. work: scratch of five times the most bars, and five more.
    """
    unit = max(by_endless(births, ends, others, count), by_deaths(deaths, a, m, b, n))
    if unit == 0 or unit == INF:
        return unit
    size = max(m, n)
    row, leave, leave_other = 1, size + 2, 2 * size + 2
    straight = endless_sum(births, ends, others, count, unit, order)
    work[0], work[row] = INF, straight
    for k in range(size):
        x = deaths[a + k] if k < m else 0.0
        y = deaths[b + k] if k < n else 0.0
        work[leave + k] = power(x / 2 / unit, order)
        work[leave_other + k] = power(y / 2 / unit, order)
        both = work[leave + k] + work[leave_other + k]
        straight += min(power(abs(x - y) / unit, order), both)
    width = half_band(work, leave, leave_other, 1, size, straight)
    most = straight * SURELY
    for j in range(1, size + 1):
        work[row + j] = work[row + j - 1] + work[leave_other + j - 1] if j <= width else INF
    for i in range(1, size + 1):
        x, own = deaths[a + i - 1] if i <= m else 0.0, work[leave + i - 1]
        low = max(0, i - width)
        before, left = work[row + low - 1], INF
        for j in range(low, min(size, i + width) + 1):
            above = work[row + j]
            found = above + own
            if j > 0:
                y = deaths[b + j - 1] if j <= n else 0.0
                found = min(found, left + work[leave_other + j - 1])
                # No power where it is of no use: farther than both halves together, a match costs
                # as much as leaving both; and nothing is gained after what costs as much already.
                apart = abs(x - y)
                if apart < x / 2 + y / 2 and before < found and before <= most:
                    found = min(found, before + power(apart / unit, order))
            work[row + j] = found
            before, left = above, found
    return unit * work[row + size] ** (1 / order)


@njit(nogil=True, cache=True)
def comes_first(births, deaths, a, m, b, n):
    """Whether the bars at a come before those at b: fewer, or the first that differs is lower."""
    k = 0
    if m == n:
        while k < m and births[a + k] == births[b + k] and deaths[a + k] == deaths[b + k]:
            k += 1
        if k == m:
            return True
        if births[a + k] != births[b + k]:
            return births[a + k] < births[b + k]
        return deaths[a + k] < deaths[b + k]
    return m < n


@njit(nogil=True, cache=True)
def assign(costs, leave, leave_other, mate, partner, via, been, u, v, reach):
    """Match bars, or leave them, at the least sum of costs; mate of each bar, -1 if it is left.

    costs: of each bar (row) with each other bar. A bar that is left has u as its cost of that,
    an other bar that is left has v so; u + v is nowhere above the cost.
    Scratch: partner of each other bar; reach, how far the search goes to come to it, from the
    bar via; whether the search has been there.
    """
    m, n = len(leave), len(leave_other)
    partner[:n] = -1
    for j in range(n):
        v[j] = leave_other[j]
    for start in range(m):
        mate[start], u[start] = -1, 0.0
        for j in range(n):
            reach[j], been[j] = INF, 0
        bar, last, gone, shortest, at = start, start, 0.0, INF, np.int64(-1)
        seeking = True
        while seeking:
            left = gone + (leave[bar] - u[bar])
            if left < shortest:
                shortest, last = left, bar
            at, nearest = np.int64(-1), INF
            for j in range(n):
                if not been[j]:
                    there = gone + (costs[bar, j] - u[bar] - v[j])
                    if there < reach[j]:
                        reach[j], via[j] = there, bar
                    if reach[j] < nearest:
                        at, nearest = np.int64(j), reach[j]
            if shortest <= nearest:
                gone = shortest
                at, mate[last] = mate[last], -1
                seeking = False
            else:
                gone = nearest
                if partner[at] < 0:
                    seeking = False
                else:
                    been[at] = 1
                    bar = partner[at]
        u[start] += gone
        for j in range(n):
            if been[j]:
                u[partner[j]] += gone - reach[j]
                v[j] -= gone - reach[j]
        while at >= 0:
            bar = via[at]
            partner[at] = bar
            at, mate[bar] = mate[bar], at


@njit(nogil=True, cache=True)
def by_assignment(
    births, deaths, halves, a, m, b, n, ends, others, count, order, ints, floats, costs
):
    """Wasserstein distance of the m bars at a and the n at b, and of those that never end.

    count bars that never end have their births before ends and before others.
    """
    # Of matchings that cost the same, the same one is taken from either side.
    if not comes_first(births, deaths, a, m, b, n):
        a, m, b, n, ends, others = b, n, a, m, others, ends
    unit = by_endless(births, ends, others, count)
    unit = by_matching(births, deaths, halves, a, m, b, n, unit, ints, floats[0])
    if unit == 0 or unit == INF:
        return unit
    x, y, h = births[a : a + m], deaths[a : a + m], halves[a : a + m]
    z, w, g = births[b : b + n], deaths[b : b + n], halves[b : b + n]
    mate, leave, leave_other = ints[0], floats[3][:m], floats[4][:n]
    table = costs[: m * n].reshape(m, n)
    most = 4.0 * (m + n)
    for i in range(m):
        leave[i] = min(power(h[i] / unit, order), most)
    for j in range(n):
        leave_other[j] = min(power(g[j] / unit, order), most)
    for i in range(m):
        for j in range(n):
            apart = max(abs(x[i] - z[j]), abs(y[i] - w[j]))
            # Farther than both halves together, a match costs as much as leaving both.
            table[i, j] = most
            if apart < h[i] + g[j]:
                table[i, j] = min(power(apart / unit, order), most)
    assign(
        table, leave, leave_other, mate, ints[1], ints[2], ints[3], floats[0], floats[1], floats[2]
    )
    moves, longest = floats[0], 0.0
    for j in range(n):
        moves[j] = g[j]
    for i in range(m):
        if mate[i] >= 0:
            moves[mate[i]] = max(abs(x[i] - z[mate[i]]), abs(y[i] - w[mate[i]]))
        else:
            longest = max(longest, h[i])
    longest = max(longest, by_endless(births, ends, others, count))
    for j in range(n):
        longest = max(longest, moves[j])
    unit = 1.0 if order == 1 else longest
    total = endless_sum(births, ends, others, count, unit, order)
    for i in range(m):
        if mate[i] < 0:
            total += power(h[i] / unit, order)
    for j in range(n):
        total += power(moves[j] / unit, order)
    return unit * root(total, order)


@njit(nogil=True, cache=True)
def root(x, order):
    """The root of this degree."""
    if order == 1:
        return x
    return np.sqrt(x) if order == 2 else x ** (1 / order)


@njit(nogil=True, cache=True)
def pairs(
    first,
    second,
    starts,
    births,
    deaths,
    halves,
    finite,
    endless,
    at_zero,
    order,
    ints,
    floats,
    costs,
    work,
    queue,
    ends,
    out,
):
    """Set out to the Wasserstein distances between the settled diagrams first[k], second[k].

    Scratch: ints (4, bars) and floats (5, bars), for the most bars of a diagram, and one more;
    costs, for the most bars of one diagram times those of the other, where births differ; work
    (5 x 8 x (bars + 1),); queue (pairs,); ends (bars + 1,).
    """
    births, deaths, halves = borrowed(births), borrowed(deaths), borrowed(halves)
    ints, floats, costs, work = borrowed(ints), borrowed(floats), borrowed(costs), borrowed(work)
    ends[:] = 0
    for k in range(len(out)):
        i, j = first[k], second[k]
        a, m, b, n = starts[i], finite[i], starts[j], finite[j]
        x, y, count = starts[i + 1], starts[j + 1], endless[i]
        out[k] = INF
        if endless[i] == endless[j]:
            if not (at_zero[i] and at_zero[j]):
                out[k] = by_assignment(
                    births, deaths, halves, a, m, b, n, x, y, count, order, ints, floats, costs
                )
            else:
                same = equal_bars(deaths, a, m, b, n)
                a, m, b, n = a + same, m - same, b + same, n - same
                longest = max(deaths[a] if m else 0.0, deaths[b] if n else 0.0)
                longest = max(longest, by_endless(births, x, y, count))
                if longest == 0:
                    out[k] = 0.0
                elif order == 1 or (order == 2 and SMALL < longest < LARGE):
                    out[k] = -1.0 - same
                    ends[max(m, n)] += 1
                else:
                    out[k] = by_band(births, deaths, a, m, b, n, x, y, count, order, work)
    waiting = 0
    for size in range(len(ends)):
        ends[size], waiting = waiting, waiting + ends[size]
    for k in range(len(out)):
        if out[k] < 0:
            size = max(finite[first[k]], finite[second[k]]) + 1 + np.int64(out[k])
            queue[ends[size]] = k
            ends[size] += 1
    size = len(work) // PARTS
    for start in range(0, waiting, LANES):
        width, lanes = 1, min(LANES, waiting - start)
        # The last of the group has the most bars, as the queue is in order of their number.
        k = queue[start + lanes - 1]
        most = max(finite[first[k]], finite[second[k]]) + 1 + np.int64(out[k])
        for lane in range(LANES):
            filled, work[LANES + lane] = 0, 0.0
            if lane < lanes:
                k = queue[start + lane]
                i, j, same = first[k], second[k], -1 - np.int64(out[k])
                m, n = finite[i] - same, finite[j] - same
                total = endless_sum(births, starts[i + 1], starts[j + 1], endless[i], 1.0, order)
                work[LANES + lane] = total
                filled = max(m, n)
                needed = fill_lane(
                    deaths, starts[i] + same, m, starts[j] + same, n, total, order, lane, size, work
                )
                width = max(width, needed)
            fill_up(lane, filled, most, size, work)
        sweep_all(most, width, order == 2, size, work)
        for lane in range(lanes):
            out[queue[start + lane]] = root(work[(most + 1) * LANES + lane], order)
