# mypy: disable-error-code="untyped-decorator, no-untyped-call, no-untyped-def"
"""Bottleneck distances between many persistence diagrams, exactly.

A threshold serves if all bars longer than twice it, of both diagrams, can be matched within
it; by Mendelsohn and Dulmage it is enough that those of either diagram can, apart from the
other's. The threshold grows from a lower bound. A search that fails to match a bar has found
bars with too few partners within the threshold (Hall), so nothing serves below the least
value at which one of them reaches another partner, or the diagonal: that is the next
threshold. Each threshold is thus a lower bound and one of the candidate values (a distance of
two bars or a half-length), and the first that serves is the distance.

Where every birth is 0, it is max_i min(|a_i - b_i|, max(a_i, b_i) / 2) over deaths in
descending order (Lumawig: Algorithms 2020, 13(11), 291).

No loop over a range is left by `break`: numba would then count references of every array.
"""

import numpy as np
from numba import njit

from pipeline.kernels.intrinsics import bits, borrowed, number

INF = np.inf


@njit(nogil=True, cache=True)
def prepare(points, starts, births, deaths, halves, finite, endless, at_zero, first, last):
    """Lay out the diagrams from first to before last; return the first bad bar, or -1.

    In the room of each diagram come its bars that end, longest first, and from the back the
    births of those that never end, in descending order. halves are half-lengths; finite and
    endless count bars; bars of length 0 are left out.
    """
    for d in range(first, last):
        end, tail = starts[d], starts[d + 1]
        at_zero[d] = True
        # Backwards: deaths mostly come in ascending order, and are wanted in descending.
        for back in range(starts[d + 1] - starts[d]):
            k = starts[d + 1] - 1 - back
            birth, death = points[k, 0], points[k, 1]
            if not (-INF < birth < INF and death >= birth):
                return k
            if death == INF:
                tail -= 1
                births[tail] = birth
            elif death > birth:
                births[end], deaths[end], halves[end] = birth, death, (death - birth) / 2
                if halves[end] == INF:  # the bar is longer than the largest double
                    halves[end] = death / 2 - birth / 2
                at_zero[d] &= birth == 0
                end += 1
        finite[d], endless[d] = end - starts[d], starts[d + 1] - tail
        sort(halves, births, deaths, starts[d], end)
        sort(births, births, births, tail, starts[d + 1])
    return -1


@njit(nogil=True, cache=True)
def sort(keys, others, more, start, end):
    """Shell sort of three arrays (or one, three times) from start to end, descending by keys."""
    sorted_to = start + 1
    while sorted_to < end and keys[sorted_to - 1] >= keys[sorted_to]:
        sorted_to += 1
    gap = 1 if sorted_to < end else 0
    while gap and 3 * gap + 1 < end - start:
        gap = 3 * gap + 1
    while gap:
        for k in range(start + gap, end):
            key, other, third = keys[k], others[k], more[k]
            at = k
            while at - gap >= start and keys[at - gap] < key:
                others[at], more[at] = others[at - gap], more[at - gap]
                keys[at] = keys[at - gap]
                at -= gap
            others[at], more[at], keys[at] = other, third, key
        gap //= 3


@njit(nogil=True, cache=True)
def by_deaths(deaths, a, m, b, n):
    """Bottleneck distance of the m bars at a and the n at b, born at 0, deaths descending."""
    common = min(m, n)
    one, other = deaths[a : a + common], deaths[b : b + common]
    left = deaths[a + common] if m > common else 0.0
    left = deaths[b + common] if n > common else left
    least = bits(left / 2)
    for k in range(common):
        apart = abs(one[k] - other[k])
        half = (one[k] if one[k] > other[k] else other[k]) / 2
        least = max(least, bits(apart if apart < half else half))
    return number(least)


@njit(nogil=True, cache=True)
def lower_bound(births, deaths, halves, others, ends, least):
    """The least threshold, from this one on, at which each bar has a partner or needs none.

    others, ends: births and deaths of the other bars.
    """
    k = 0
    while k < len(halves) and halves[k] > least:
        birth, death, nearest = births[k], deaths[k], bits(halves[k])
        for q in range(len(others)):
            x, y = abs(birth - others[q]), abs(death - ends[q])
            nearest = min(nearest, bits(x if x > y else y))
        least = max(least, number(nearest))
        k += 1
    return least


@njit(nogil=True, cache=True)
def free_partner(birth, death, others_births, others_deaths, partner, least):
    """A bar without a partner that this one reaches at this threshold, or -1."""
    for q in range(len(others_births)):
        if (
            partner[q] < 0
            and abs(birth - others_births[q]) <= least
            and abs(death - others_deaths[q]) <= least
        ):
            return q
    return -1


@njit(nogil=True, cache=True)
def match_all(births, deaths, halves, others, ends, least, mate, partner, via, reach):
    """The least threshold, from this one on, at which all bars longer than twice it match.

    others, ends: births and deaths of the other bars.
    Scratch: mate of each bar and partner of each other bar (-1: none); reach, the threshold
    at which the search comes to each other bar (-1: it has been there), from the bar via.
    """
    partner[: len(others)] = -1
    start = np.int64(0)
    while start < len(halves) and halves[start] > least:
        at = free_partner(births[start], deaths[start], others, ends, partner, least)
        mate[start] = -1
        if at >= 0:
            via[at] = start
        else:
            reach[: len(others)] = INF
            bar, shortest = start, start
            seeking = True
            while seeking:
                at = widen(births[bar], deaths[bar], others, ends, bar, reach, via)
                nearest = reach[at] if at >= 0 else INF
                least = max(least, min(nearest, halves[shortest]))
                if halves[shortest] <= least:
                    # The shortest bar of the search goes to the diagonal; its partner is free.
                    at = mate[shortest]
                    mate[shortest] = -1
                    seeking = False
                elif partner[at] < 0:
                    seeking = False
                else:
                    reach[at] = -1.0
                    bar = partner[at]
                    shortest = bar if halves[bar] < halves[shortest] else shortest
        while at >= 0:
            bar = via[at]
            partner[at] = bar
            at, mate[bar] = mate[bar], at
        start += 1
    return least


@njit(nogil=True, cache=True)
def widen(birth, death, others_births, others_deaths, bar, reach, via):
    """Let the search go on from this bar; return the nearest bar it has not been to, or -1."""
    at, nearest = -1, INF
    for q in range(len(others_births)):
        if reach[q] >= 0:
            x, y = abs(birth - others_births[q]), abs(death - others_deaths[q])
            apart = x if x > y else y
            if apart < reach[q]:
                reach[q], via[q] = apart, bar
            if reach[q] < nearest:
                at, nearest = q, reach[q]
    return at


@njit(nogil=True, cache=True)
def by_endless(births, a, b, count):
    """Distance of the bars that never end, count of them before a and before b."""
    least = 0.0
    for k in range(1, count + 1):
        least = max(least, abs(births[a - k] - births[b - k]))
    return least


@njit(nogil=True, cache=True)
def by_matching(births, deaths, halves, a, m, b, n, least, ints, reach):
    """Bottleneck distance of the m bars at a and the n bars at b, or least if that is more."""
    x, y, h = births[a : a + m], deaths[a : a + m], halves[a : a + m]
    u, v, g = births[b : b + n], deaths[b : b + n], halves[b : b + n]
    mate, partner, via = ints[0], ints[1], ints[2]
    least = lower_bound(u, v, g, x, y, lower_bound(x, y, h, u, v, least))
    least = match_all(x, y, h, u, v, least, mate, partner, via, reach)
    return match_all(u, v, g, x, y, least, mate, partner, via, reach)


@njit(nogil=True, cache=True)
def pairs(
    first, second, starts, births, deaths, halves, finite, endless, at_zero, ints, reach, out
):
    """Set out to the bottleneck distances between the prepared diagrams first[k], second[k].

    Scratch: ints (3, bars) and reach (bars,), for the most bars of a diagram, and one more.
    """
    births, deaths, halves = borrowed(births), borrowed(deaths), borrowed(halves)
    ints, reach = borrowed(ints), borrowed(reach)
    for k in range(len(out)):
        i, j = first[k], second[k]
        a, m, b, n = starts[i], finite[i], starts[j], finite[j]
        if endless[i] != endless[j]:
            out[k] = INF
        else:
            least = by_endless(births, starts[i + 1], starts[j + 1], endless[i])
            if at_zero[i] and at_zero[j]:
                out[k] = max(least, by_deaths(deaths, a, m, b, n))
            else:
                out[k] = by_matching(births, deaths, halves, a, m, b, n, least, ints, reach)
