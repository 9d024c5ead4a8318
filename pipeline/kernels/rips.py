# mypy: disable-error-code="untyped-decorator, no-untyped-call, no-untyped-def"
"""Vietoris-Rips persistence in dimensions 0 and 1 over Z/2, by edges alone.

Lengths come as the bit patterns of float64 (int64): for numbers that are not negative, both
have the same order. Edges (i, j), i < j, stand in the order of (length, i, j); the lens of an
edge is the set of vertices joined to both its ends by earlier edges.

- Edges with an empty lens are the relative neighbourhood graph. Those of them that join two
  components are the minimum spanning tree: each ends a class of dimension 0. Each of the
  others begins a class of dimension 1. Every other edge is filled by a triangle with any
  vertex of its lens as soon as it comes.
- Only an edge whose lens falls into two or more components, in the graph of earlier edges,
  ends classes: with a and b in different ones, the cycle i-a-j-b is filled. It ends the
  youngest class in it, which a reduction from the latest edge down finds.

So the relative neighbourhood graph comes first; for nearly every edge one of three vertices
shows that its lens is not empty: the two nearest of an end, and the most central vertex. Then
every birth is known, only edges up to the last death are sorted, and lenses are looked at
only while some class is alive.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.intrinsics import TILE, borrowed, highest_bit, lowest_bit, off_mirror

ONE = np.uint64(1)
ENDLESS = 0x7FF << 52  # the bit pattern of inf
LONGEST = (1 << 63) - 1
DIGIT = 11  # bits a sorting pass looks at
DIGITS = 1 << DIGIT
OCTAVES = 8 << 52  # lengths below 2**-8 of the longest share one bucket
LONG_RUN = 256  # edges that agree in their leading bits, from which on a second pass pays
STEP = 1 << 47  # how far past the last birth deaths are looked for at first: 2 to 3 %
FURTHEST = 1 << 60  # the longest such step, as they double
EDGE = (1 << 32) - 1
POOL = 4096  # room at first for the edges of reduced columns, beyond one of each

Integers = npt.NDArray[np.signedinteger]
Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


@njit(nogil=True, cache=True)
def survey(D, near, central, spare):
    """Set two near vertices of each vertex, and central to the order of mean length.

    Returns the enclosing radius: at this length every class of dimension 1 has ended.
    """
    n = len(D)
    radius = LONGEST
    for i in range(n):
        row = D[i]
        farthest, total = 0, 0
        for v in range(n):
            farthest = max(farthest, row[v])
            total += row[v] >> 16
        radius = min(radius, farthest)
        central[i] = total >> 16 << 16 | i
        # The vertex takes the place of the last bits of its length: near is near enough.
        first, second = LONGEST, LONGEST
        for v in range(n):
            key = row[v] >> 15 << 15 | v
            first = min(first, key if v != i else LONGEST)
        for v in range(n):
            key = row[v] >> 15 << 15 | v
            second = min(second, key if (v != i) & (key != first) else LONGEST)
        near[i, 0] = first & 32767 if n > 1 else i
        near[i, 1] = second & 32767 if n > 2 else i
    sort_small(central, spare)
    for i in range(n):
        central[i] &= 65535
    return radius


@njit(nogil=True, cache=True)
def sort_small(values, spare):
    """Sort values that are not negative, in place, each put where its rank is.

    Comparing all with all has no branch: at 128 values it takes a sixth of Shell's time.
    """
    n = len(values)
    spare[:n] = values
    values[:] = -1
    for i in range(n):
        value, rank = spare[i], 0
        for j in range(n):
            rank += spare[j] < value
        values[rank] = value
    # Equal values have one rank: the places after it are theirs too.
    for i in range(1, n):
        values[i] = max(values[i], values[i - 1])


@njit(nogil=True, cache=True)
def before(D, a, b, length, edge):
    """Whether the edge (a, b) stands before an edge of this length and number."""
    if D[a, b] != length:
        return D[a, b] < length
    return a != b and (min(a, b) << 16 | max(a, b)) < edge


@njit(nogil=True, cache=True)
def in_lens(D, i, j, v):
    """Whether v is in the lens of (i, j)."""
    length, edge = D[i, j], i << 16 | j
    return v != i and v != j and before(D, i, v, length, edge) and before(D, j, v, length, edge)


@njit(nogil=True, cache=True)
def apex(D, i, j, central):
    """A vertex of the lens of (i, j), as central as can be; -1 where there is none."""
    length = D[i, j]
    for p in range(len(central)):
        v = central[p]
        if max(D[i, v], D[j, v]) < length:
            return v
    for p in range(len(central)):
        if in_lens(D, i, j, central[p]):
            return central[p]
    return -1


@njit(nogil=True, cache=True)
def empty(D, i, j, central):
    """Whether the lens of (i, j) is empty."""
    length, nearest, border = D[i, j], LONGEST, 0
    # Where all edges tie, nearly every lens has this vertex, and the search below is long.
    if in_lens(D, i, j, central[0]):
        return False
    for v in range(len(D)):
        nearest = min(nearest, max(D[i, v], D[j, v]))
    if nearest < length:
        return False
    for v in range(len(D)):
        border += max(D[i, v], D[j, v]) == length
    # i and j themselves are on the border; only ties put others there.
    return border == 2 or apex(D, i, j, central) < 0


@njit(nogil=True, cache=True)
def neighbourhood(D, radius, near, central, filled, edges):
    """Set edges to the relative neighbourhood graph up to radius; return its size."""
    n = len(D)
    middle = central[0]
    for i in range(n):
        first, second = near[i, 0], near[i, 1]
        to_first, to_second, to_middle = D[i, first], D[i, second], D[i, middle]
        for v in range(n):
            length = D[i, v]
            filled[i, v] = (
                (max(D[first, v], to_first) < length)
                | (max(D[second, v], to_second) < length)
                | (max(D[middle, v], to_middle) < length)
                | (length > radius)
            )
    count, left, empties = np.uint64(0), np.uint64(0), np.uint64(0)
    for i in range(n):
        for j in range(i + 1, n):
            edges[count] = i << 16 | j
            count += np.uint64(not filled[i, j])
    for k in range(count):
        edges[left] = edges[k]
        left += np.uint64(not filled[edges[k] & 65535, edges[k] >> 16])
    for k in range(left):
        edges[empties] = edges[k]
        empties += np.uint64(empty(D, edges[k] >> 16, edges[k] & 65535, central))
    return np.int64(empties)


@njit(nogil=True, cache=True)
def between(D, low, high, wanted, edges):
    """Set edges to those with low < length <= high, in order of (i, j); return how many.

    wanted: scratch. Storing every edge, and going on only past those wanted, has no branch.
    """
    n, count = len(D), np.uint64(0)
    for i in range(n):
        for j in range(n):
            wanted[j] = (low < D[i, j]) & (D[i, j] <= high)
        for j in range(i + 1, n):
            edges[count] = i << 16 | j
            count += np.uint64(wanted[j])
    return np.int64(count)


@njit(nogil=True, cache=True)
def scatter(D, edges, spare, tally):
    """Radix sort by the leading bits of length, put above bit 32; keeps the order of equals."""
    low, high = LONGEST, 0
    for k in range(len(edges)):
        length = D[edges[k] >> 16, edges[k] & 65535]
        low, high = min(low, length), max(high, length)
    low = max(low, high - OCTAVES)
    shift = 0
    while high - low >> shift >= DIGITS * DIGITS:
        shift += 1
    tally[:] = 0
    for k in range(len(edges)):
        digits = max(D[edges[k] >> 16, edges[k] & 65535] - low, 0) >> shift
        tally[0, digits & DIGITS - 1] += 1
        tally[1, digits >> DIGIT] += 1
        edges[k] |= digits << 32
    for p in range(2):
        total = 0
        for digit in range(DIGITS):
            here = tally[p, digit]
            tally[p, digit] = total
            total += here
    for k in range(len(edges)):
        digit = edges[k] >> 32 & DIGITS - 1
        spare[tally[0, digit]] = edges[k]
        tally[0, digit] += 1
    for k in range(len(edges)):
        digit = spare[k] >> 32 + DIGIT
        edges[tally[1, digit]] = spare[k]
        tally[1, digit] += 1


@njit(nogil=True, cache=True)
def next_run(edges, start):
    """Where the run of edges that agree above bit 32 ends."""
    end = start + 1
    while end < len(edges) and edges[end] >> 32 == edges[start] >> 32:
        end += 1
    return end


@njit(nogil=True, cache=True)
def sort_edges(D, edges, spare, tally):
    """Sort edges that come in order of (i, j) by (length, i, j).

    By leading bits, then long runs of equal ones by theirs, and what still agrees by Shell.
    """
    scatter(D, edges, spare, tally)
    start = np.int64(0)
    while start < len(edges):
        end = next_run(edges, start)
        if end - start > 1:
            run = edges[start:end]
            for k in range(len(run)):
                run[k] &= EDGE
            if len(run) > LONG_RUN:
                scatter(D, run, spare, tally)
            settle(D, run)
        start = end
    for k in range(len(edges)):
        edges[k] &= EDGE


@njit(nogil=True, cache=True)
def ascending(D, edges):
    """Whether no edge is shorter than the one before it, all numbers above bit 32 aside."""
    last = np.int64(-1)
    for k in range(len(edges)):
        edge = edges[k] & EDGE
        length = D[edge >> 16, edge & 65535]
        if length < last:
            return False
        last = length
    return True


@njit(nogil=True, cache=True)
def settle(D, edges):
    """Sort the edges of each run that agrees above bit 32 by (length, i, j)."""
    start = np.int64(0)
    while start < len(edges):
        end = next_run(edges, start)
        # Equal lengths come in order of (i, j), so what ascends is sorted.
        gap = 0 if ascending(D, edges[start:end]) else 1
        while gap and 3 * gap + 1 < end - start:
            gap = 3 * gap + 1
        while gap:
            for k in range(start + gap, end):
                edge, at = edges[k], k
                number = edge & EDGE
                length = D[number >> 16, number & 65535]
                while at - gap >= start:
                    other = edges[at - gap] & EDGE
                    if before(D, other >> 16, other & 65535, length, number):
                        break
                    edges[at] = edges[at - gap]
                    at -= gap
                edges[at] = edge
            gap //= 3
        start = end


@njit(nogil=True, cache=True)
def root(parent, v):
    """The root of v's component, halving the path to it."""
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@njit(nogil=True, cache=True)
def part_tree(edges, parent, others):
    """Move the edges that join two components to the front, the rest to others; count them."""
    for v in range(len(parent)):
        parent[v] = v
    joined, rest = 0, 0
    for k in range(len(edges)):
        edge = edges[k]
        a, b = root(parent, edge >> 16), root(parent, edge & 65535)
        if a == b:
            others[rest] = edge
            rest += 1
        else:
            parent[b] = a
            edges[joined] = edge
            joined += 1
    return joined


@njit(nogil=True, cache=True)
def whole(joined, i, j):
    """Whether the lens of (i, j) is empty or lies round its most central vertex: one component.

    joined: bit sets of the neighbours of each vertex, itself among them, in central order.
    """
    words = joined.shape[1]
    for w in range(words):
        lens = joined[i, w] & joined[j, w]
        if lens:
            hub = w << 6 | lowest_bit(lens)
            while w < words and not (joined[i, w] & joined[j, w] & ~joined[hub, w]):
                w += 1
            return w == words
    return True


@njit(nogil=True, cache=True)
def components(joined, i, j, lens, rest, part, ahead, found):
    """Set found to one vertex of each component of the lens of (i, j); return how many."""
    words = joined.shape[1]
    hub = -1
    for w in range(words):
        lens[w] = joined[i, w] & joined[j, w]
        if hub < 0 and lens[w]:
            hub = w << 6 | lowest_bit(lens[w])
    for w in range(words):
        rest[w] = lens[w] & ~joined[hub, w]
    found[0] = hub
    count = 1
    w = 0
    while w < words:
        while rest[w]:
            v = w << 6 | lowest_bit(rest[w])
            met = np.uint64(0)
            for x in range(words):
                met |= joined[v, x] & lens[x] & ~rest[x]
            if met:
                for x in range(w, words):
                    rest[x] &= ~joined[v, x]
            else:
                found[count] = v
                count += apart(joined, v, lens, rest, part, ahead)
        w += 1
    return count


@njit(nogil=True, cache=True)
def apart(joined, v, lens, rest, part, ahead):
    """Grow the component of v in lens until it meets what is not in rest; take it from rest.

    Returns whether it never did.
    """
    words = len(lens)
    for w in range(words):
        part[w] = joined[v, w] & lens[w]
        ahead[w] = part[w]
    met = False
    w = 0
    while w < words and not met:
        if not ahead[w]:
            w += 1
            continue
        v = w << 6 | lowest_bit(ahead[w])
        ahead[w] &= ahead[w] - ONE
        for x in range(words):
            new = joined[v, x] & lens[x] & ~part[x]
            if new:
                part[x] |= new
                ahead[x] |= new
                w = min(w, x)
                if new & ~rest[x]:
                    met = True
    for x in range(words):
        rest[x] &= ~part[x]
    return not met


@njit(nogil=True, cache=True)
def flip(column, ranks, a, b):
    """Add the edge (a, b) to a column modulo 2; return its rank."""
    rank = np.int64(ranks[min(a, b), max(a, b)])
    column[rank >> 6] ^= ONE << np.uint64(rank & 63)
    return rank


@njit(nogil=True, cache=True)
def fill(column, ranks, i, j, a, b):
    """Set an empty column to the cycle i-a-j-b; return its last rank."""
    return max(
        max(flip(column, ranks, i, a), flip(column, ranks, j, a)),
        max(flip(column, ranks, i, b), flip(column, ranks, j, b)),
    )


@njit(nogil=True, cache=True)
def youngest(D, central, ranks, edges, spans, pool, column, word):
    """The class that the cycle in column ends, or -1; column keeps the reduced cycle."""
    while word >= 0:
        while column[word]:
            key = edges[word << 6 | highest_bit(column[word])]
            birth = (key >> 32) - 1
            if birth < 0:
                i, j = key >> 16, key & 65535
                v = apex(D, i, j, central)
                flip(column, ranks, i, j)
                flip(column, ranks, i, v)
                flip(column, ranks, j, v)
            elif spans[birth, 1] == 0:
                return birth
            else:
                for k in range(spans[birth, 0], spans[birth, 1]):
                    column[pool[k] >> 6] ^= ONE << np.uint64(pool[k] & 63)
        word -= 1
    return -1


@njit(nogil=True, cache=True)
def store(column, word, pool, used):
    """Move the ranks of a column's edges into the pool, from this place on; return the end."""
    for w in range(word + 1):
        while column[w]:
            pool[used] = w << 6 | lowest_bit(column[w])
            column[w] &= column[w] - ONE
            used += 1
    return used


@njit(nogil=True, cache=True)
def longer(pool, least):
    """The same array, with room for this many more and as much again."""
    long = np.empty(2 * len(pool) + least, np.int64)
    for k in range(len(pool)):
        long[k] = pool[k]
    return long


@njit(nogil=True, cache=True)
def above(length, step, radius):
    """A bit pattern this far above a length, or the radius."""
    return length + step if step < radius - length else radius


@njit(nogil=True, cache=True)
def find_deaths(D, radius, central, births, deaths, edges, spare, tally, ranks, bits, ints, wanted):
    """Set deaths to the length at which each class of dimension 1 ends.

    births: the edges that begin the classes, in order. The rest is scratch.
    """
    n, words = len(D), (len(D) + 63) >> 6
    joined = bits[: n * words].reshape(n, words)
    sets = bits[n * words : (n + 4) * words].reshape(4, words)
    lens, rest, part, ahead = sets[0], sets[1], sets[2], sets[3]
    column = bits[(n + 4) * words :]
    position, found, pool = ints[:n], ints[n : 2 * n], ints[2 * n :]
    joined[:] = 0
    column[:] = 0
    for p in range(n):
        position[central[p]] = p
        joined[p, p >> 6] |= ONE << np.uint64(p & 63)
    spans = np.zeros((len(births), 2), np.int64)
    used, begin, born, alive = np.int64(0), 0, 0, 0
    last = births[len(births) - 1]
    low, step = np.int64(-1), np.int64(STEP)
    high = above(D[last >> 16, last & 65535], step, radius)
    while True:
        end = begin + between(D, low, high, wanted, edges[begin:])
        sort_edges(D, edges[begin:end], spare, tally)
        for rank in range(begin, end):
            edge = edges[rank]
            i, j = edge >> 16, edge & 65535
            p, q = position[i], position[j]
            ranks[i, j] = rank
            if born < len(births) and edge == births[born]:
                born += 1
                alive += 1
                edges[rank] |= born << 32
            elif alive and not whole(joined, p, q):
                parts = components(joined, p, q, lens, rest, part, ahead, found)
                for k in range(1, parts):
                    top = fill(column, ranks, i, j, central[found[0]], central[found[k]])
                    birth = youngest(D, central, ranks, edges, spans, pool, column, top >> 6)
                    if birth >= 0:
                        deaths[birth] = D[i, j]
                        alive -= 1
                        if used + top >= len(pool):
                            pool = longer(pool, top + 1)
                        spans[birth, 0] = used
                        used = store(column, top >> 6, pool, used)
                        spans[birth, 1] = used
                if alive == 0 and born == len(births):
                    return
            joined[p, q >> 6] |= ONE << np.uint64(q & 63)
            joined[q, p >> 6] |= ONE << np.uint64(p & 63)
        begin, low = end, high
        high, step = above(high, step, radius), min(2 * step, np.int64(FURTHEST))


@njit(nogil=True, cache=True)
def sound(D):
    """Whether every length is finite and not negative, the diagonal 0, and D its own mirror."""
    n = len(D)
    wrong, fine = np.int64(0), True
    for i in range(n):
        row = D[i]
        wrong |= row[i]
        for j in range(n):
            fine &= (row[j] >= 0) & (row[j] < ENDLESS)
    tiled = n // TILE * TILE
    for i in range(0, tiled, TILE):
        for j in range(0, i + TILE, TILE):
            wrong |= off_mirror(D, i, j)
    for i in range(tiled, n):
        for j in range(i):
            wrong |= D[i, j] ^ D[j, i]
    return fine and wrong == 0


@njit(nogil=True, cache=True)
def widen(bars, used, more):
    """Bars with room for more after the used ones."""
    if used + more <= len(bars):
        return bars
    wide = np.empty((2 * (used + more), 2), np.int64)
    for k in range(used):
        wide[k, 0], wide[k, 1] = bars[k, 0], bars[k, 1]
    return wide


@njit(nogil=True, cache=True)
def add_bars(D, births, deaths, bars, start):
    """Append the bars of positive length, births in order, by (birth, death); return the end."""
    end = start
    for k in range(len(births)):
        birth, death = D[births[k] >> 16, births[k] & 65535], deaths[k]
        if death > birth:
            at = end
            while at > start and bars[at - 1, 0] == birth and bars[at - 1, 1] > death:
                bars[at, 0], bars[at, 1] = bars[at - 1, 0], bars[at - 1, 1]
                at -= 1
            bars[at, 0], bars[at, 1] = birth, death
            end += 1
    return end


@njit(nogil=True, cache=True)
def tree_lengths(D, reach, done, lengths):
    """Set lengths to those of a minimum spanning tree, in the order of Prim's algorithm."""
    n = len(D)
    reach[:] = LONGEST
    done[:] = 0
    at = 0
    for k in range(n - 1):
        row = D[at]
        reach[at] = done[at] = LONGEST
        least, key = LONGEST, LONGEST
        for v in range(n):
            length = min(reach[v], row[v] | done[v])
            reach[v] = length
            least = min(least, length)
            # The vertex takes the place of the last bits: nearly always it is the nearest.
            key = min(key, length >> 15 << 15 | v)
        at = key & 32767
        if reach[at] != least:
            at = 0
            while reach[at] != least:
                at += 1
        lengths[k] = least


@njit(nogil=True, cache=True)
def end_components(length, bars, end):
    """Append the bar of a component that ends at this length, if any; return the new end."""
    bars[end, 0], bars[end, 1] = 0, length
    return end + 1 if length > 0 else end


@njit(nogil=True, cache=True)
def add_components(D, tree, bars, end):
    """Append the bars of dimension 0, given the minimum spanning tree in order."""
    for k in range(len(tree)):
        end = end_components(D[tree[k] >> 16, tree[k] & 65535], bars, end)
    return end_components(np.int64(ENDLESS), bars, end)


@njit(nogil=True, cache=True)
def persistence_0(lengths, starts, sizes, scratch):
    """Bars of dimension 0 of the matrices of these sizes at these starts.

    lengths: all matrices in one row; never written to. scratch: three times the most points.
    Returns the bars, where those of each matrix begin and end, and the first matrix that is
    not sound (-1: all are).
    """
    lengths, scratch = borrowed(lengths), borrowed(scratch)
    bars, ends = np.empty((np.sum(sizes), 2), np.int64), np.zeros(len(sizes) + 1, np.int64)
    for k in range(len(sizes)):
        n, end = sizes[k], ends[k]
        D = lengths[starts[k] : starts[k] + n * n].reshape(n, n)
        if not sound(D):
            return bars, ends, k
        tree = scratch[: n - 1]
        tree_lengths(D, scratch[n : 2 * n], scratch[2 * n : 3 * n], tree)
        sort_small(tree, scratch[n : 2 * n])
        for t in range(n - 1):
            end = end_components(tree[t], bars, end)
        ends[k + 1] = end_components(np.int64(ENDLESS), bars, end)
    return bars[: ends[-1]], ends, -1


def workspace(points: int) -> tuple[Integers, Integers, Integers, Integers, Integers, Words, Flags]:
    """Scratch for persistence_01 on matrices of as many points at most, for one thread."""
    edges = points * (points - 1) // 2 + 1
    words = (points + 63) // 64
    return (
        np.empty(edges, np.int64),
        np.empty(edges, np.int64),
        np.empty((2, DIGITS), np.uint32),
        np.empty(points * points, np.int32),
        np.empty(8 * points + POOL + edges, np.int64),
        np.empty((points + 4) * words + (edges >> 6) + 1, np.uint64),
        np.empty(points * points, np.bool_),
    )


@njit(nogil=True, cache=True)
def persistence_01(lengths, starts, sizes, edges, spare, tally, ranks, ints, bits, flags):
    """Bars of dimensions 0 and 1 of the matrices of these sizes at these starts.

    lengths: all matrices in one row; never written to. After sizes comes a workspace.
    Returns for each dimension the bars and where those of each matrix begin and end, then
    the first matrix that is not sound (-1: all are).
    """
    lengths, edges, spare = borrowed(lengths), borrowed(edges), borrowed(spare)
    tally, ranks, ints = borrowed(tally), borrowed(ranks), borrowed(ints)
    bits, flags = borrowed(bits), borrowed(flags)
    bars_0, ends_0 = np.empty((np.sum(sizes), 2), np.int64), np.zeros(len(sizes) + 1, np.int64)
    bars_1, ends_1 = np.empty((np.sum(sizes), 2), np.int64), np.zeros(len(sizes) + 1, np.int64)
    for k in range(len(sizes)):
        n = sizes[k]
        D = lengths[starts[k] : starts[k] + n * n].reshape(n, n)
        if not sound(D):
            return bars_0, ends_0, bars_1, ends_1, k
        filled, ranked = flags[: n * n].reshape(n, n), ranks[: n * n].reshape(n, n)
        near, central, left = ints[: 2 * n].reshape(n, 2), ints[2 * n : 3 * n], ints[3 * n :]
        radius = survey(D, near, central, left)
        count = neighbourhood(D, radius, near, central, filled, edges)
        sort_edges(D, edges[:count], spare, tally)
        births, deaths = np.empty(count - n + 1, np.int64), np.empty(count - n + 1, np.int64)
        part_tree(edges[:count], left[:n], births)
        ends_0[k + 1] = add_components(D, edges[: n - 1], bars_0, ends_0[k])
        if len(births):
            sets = bits[: (n + 4) * ((n + 63) >> 6) + (n * (n - 1) >> 7) + 1]
            scratch = (edges, spare, tally, ranked, sets, left, flags)
            find_deaths(D, radius, central, births, deaths, *scratch)
        bars_1 = widen(bars_1, ends_1[k], len(births))
        ends_1[k + 1] = add_bars(D, births, deaths, bars_1, ends_1[k])
    return bars_0[: ends_0[-1]], ends_0, bars_1[: ends_1[-1]], ends_1, -1
