# mypy: disable-error-code="untyped-decorator, no-untyped-call"
"""Jensen-Shannon distances and Kullback-Leibler divergences between all rows of a map.

For rows p, q with s = p + q, d = p - q, t = d / s, u = t^2, the divergence in bits is

    JSD = 1 / (4 ln 2) * sum of d t phi(u),   phi(u) = sum over m >= 0 of u^m / ((m+1)(2m+1))  (1)
        = 1 / 4 * sum of d x psi(x^2 ln^2 2), x = log2 p - log2 q, psi(y) = t phi(u) / sqrt y  (2)
        = 1 + 1/2 * sum of h(p) + h(q) - h(s),  h(v) = v log2 v                                (3)

(1) has only positive terms, so nothing cancels however close the rows are. (2) costs no
division and no logarithm for a pair, but holds as a short polynomial only where no number
is more than e times its counterpart, and x loses digits when rows are very close. (3)
costs one logarithm for each pair of numbers, and loses what close rows have in common. So
each pair takes (2) if the extremes of its rows allow it, else (3); and where the result
is too small to hold 12 digits, (1) instead. In the same terms,

    KL(p||q) = sum of d t (1 + u B(u) + t B(u)) nats,   B(u) = sum over m >= 0 of u^m / (2m+3)  (4)

A row divided by its sum is kept as an unevaluated sum high + low, its numbers exact to about
100 bits beside one another. Its sum is exact to 4e-27 k of itself (2e-23 for 4,096 numbers, as
found by search), by which all of them may be off together. What that adds to d is at right
angles to the difference of two distributions, which has no sum, so a distance of 1e-16 is off by
1e-14 of itself, and one that should be 0 is 2e-23. Everything is scaled by 2^300, so that
subnormal probabilities are ordinary numbers. Columns where a row has only zeros, before
its first number or after its last (a causal map, a band), are left out of (3): there
h(p) + h(q) - h(s) = 0.

The loops are built of vectors of eight doubles, `Lanes`, whose operators append LLVM
instructions. The order of every addition is thus written down here, not chosen by an
optimiser: the bits are the same whatever the width of the machine's registers. It stands
in this one file because numba's cache looks at no other when it asks what has changed.

Coefficients are minimax (Remez, 50 digits) over the stated range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WIDTH = 8

_INDEX = ir.IntType(64)
_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_INTEGERS = ir.VectorType(_INDEX, WIDTH)
_MANTISSA = (1 << 52) - 1
_BITS_OF_1 = 0x3FF0 << 48
_BITS_OF_2_TO_52 = 0x4330 << 48


class Lanes:
    """Eight doubles of the function under construction."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._make(self.builder.fadd(self.value, self._value(other)))

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._make(self.builder.fsub(self.value, self._value(other)))

    def __rsub__(self, other: float) -> Lanes:
        return self._make(self.builder.fsub(self._value(other), self.value))

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._make(self.builder.fmul(self.value, self._value(other)))

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._make(self.builder.fdiv(self.value, self._value(other)))

    def __neg__(self) -> Lanes:
        return self._make(self.builder.fneg(self.value))

    def __abs__(self) -> Lanes:
        return self._call("llvm.fabs", self)

    def root(self) -> Lanes:
        """Square root."""
        return self._call("llvm.sqrt", self)

    def times(self, factor: Lanes | float, plus: Lanes | float) -> Lanes:
        """Product and sum, rounded once."""
        return self._call("llvm.fma", self, factor, plus)

    def polynomial(self, coefficients: Sequence[float]) -> Lanes:
        """Polynomial in this value; coefficients from the constant up."""
        total = self._make(_doubles(coefficients[-1]))
        for coefficient in reversed(coefficients[:-1]):
            total = total.times(self, coefficient)
        return total

    def lesser(self, other: Lanes | float) -> Lanes:
        """The smaller of two numbers that are not NaN."""
        return self.chosen(other, self, other)

    def greater(self, other: Lanes | float) -> Lanes:
        """The larger of two numbers that are not NaN."""
        return self.chosen(other, other, self)

    def chosen(self, bound: Lanes | float, below: Lanes | float, otherwise: Lanes | float) -> Lanes:
        """`below` in the lanes where this value is under the bound, `otherwise` elsewhere."""
        return self._make(
            self.builder.select(self._under(bound), self._value(below), self._value(otherwise))
        )

    def reaching(
        self, bound: float, then: Callable[[], Sequence[Lanes]], otherwise: Sequence[Lanes]
    ) -> list[Lanes]:
        """`then()` if any lane reaches the bound, else `otherwise`."""
        build = self.builder
        mask = build.bitcast(self._under(bound), ir.IntType(WIDTH))
        before = build.block
        with build.if_then(build.icmp_unsigned("!=", mask, mask.type(-1)), likely=False):
            found = then()
            end = build.block
        merged = []
        for here, there in zip(otherwise, found, strict=True):
            phi = build.phi(_DOUBLES)
            phi.add_incoming(here.value, before)
            phi.add_incoming(there.value, end)
            merged.append(self._make(phi))
        return merged

    def exponent_and_mantissa(self) -> tuple[Lanes, Lanes]:
        """Biased exponent plus 2^52, and the fraction in [1, 2), of a number >= 0."""
        build = self.builder
        bits = build.bitcast(self.value, _INTEGERS)
        exponent = build.or_(build.lshr(bits, _integers(52)), _integers(_BITS_OF_2_TO_52))
        mantissa = build.or_(build.and_(bits, _integers(_MANTISSA)), _integers(_BITS_OF_1))
        return (
            self._make(build.bitcast(exponent, _DOUBLES)),
            self._make(build.bitcast(mantissa, _DOUBLES)),
        )

    def folded(self, operation: Callable[[Lanes, Lanes], Lanes]) -> ir.Value:
        """The lanes combined into one number, half with half."""
        lanes = self
        for distance in (4, 2, 1):
            others = _shuffled(lanes, lanes, [lane ^ distance for lane in range(WIDTH)])
            lanes = operation(lanes, self._make(others))
        return self.builder.extract_element(lanes.value, ir.IntType(32)(0))

    def total(self) -> ir.Value:
        """Sum of the lanes."""
        return self.folded(Lanes.__add__)

    def _make(self, value: ir.Value) -> Lanes:
        return Lanes(self.builder, value)

    def _value(self, other: Lanes | float) -> ir.Value:
        return other.value if isinstance(other, Lanes) else _doubles(other)

    def _under(self, other: Lanes | float) -> ir.Value:
        return self.builder.fcmp_ordered("<", self.value, self._value(other))

    def _call(self, name: str, *operands: Lanes | float) -> Lanes:
        values = [self._value(operand) for operand in operands]
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * len(values))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"{name}.v8f64")
        return self._make(self.builder.call(function, values))


class Row:
    """A row of a C-contiguous matrix of floats, read as doubles and written by eights."""

    def __init__(self, builder: ir.IRBuilder, pointer: ir.Value, size: ir.Value) -> None:
        self.builder = builder
        self.pointer = pointer
        self.size = size

    def __getitem__(self, offset: ir.Value) -> Lanes:
        kind = ir.VectorType(self.pointer.type.pointee, WIDTH)
        value = self.builder.load(self._place(offset, kind), align=4)
        if kind != _DOUBLES:
            value = self.builder.fpext(value, _DOUBLES)
        return Lanes(self.builder, value)

    def __setitem__(self, offset: ir.Value, lanes: Lanes) -> None:
        self.put(offset, lanes, WIDTH)

    def put(self, offset: ir.Value, lanes: Lanes, count: int) -> None:
        """Write the first lanes only."""
        part = _shuffled(lanes, lanes, range(count))
        self.builder.store(part, self._place(offset, part.type), align=8)

    def _place(self, offset: ir.Value, kind: ir.Type) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(self.pointer, [offset]), kind.as_pointer())


class Matrix:
    """A C-contiguous matrix of floats that a kernel received."""

    def __init__(self, builder: ir.IRBuilder, array: Any) -> None:
        self.builder = builder
        self._data = array.data
        self._width = builder.extract_value(array.shape, 1)

    def row(self, index: ir.Value) -> Row:
        """Row of the matrix; the index is not checked."""
        start = self.builder.mul(index, self._width)
        return Row(self.builder, self.builder.gep(self._data, [start]), self._width)

    def rows(self, index: ir.Value) -> list[Row]:
        """Row of the matrix and the three after it."""
        return [self.row(self.builder.add(index, _INDEX(n))) for n in range(QUAD)]


def _building(body: Callable[..., Any]) -> Callable[..., Any]:
    """Code generator of a numba intrinsic, from `body(builder, *arguments)`.

    Arrays arrive as `Matrix`, numbers as they are; what the body returns (nothing, a
    number, or a list for a tuple) is the value of the call.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        arguments = [
            Matrix(builder, context.make_array(kind)(context, builder, value))
            if isinstance(kind, types.Array)
            else value
            for kind, value in zip(signature.args, values, strict=True)
        ]
        result = body(builder, *arguments)
        if isinstance(result, list):
            return context.make_tuple(builder, signature.return_type, result)
        return context.get_dummy_value() if result is None else result

    return generate


def _looped(
    builder: ir.IRBuilder,
    start: ir.Value,
    stop: ir.Value,
    initial: Sequence[Lanes],
    step: Callable[[ir.Value, list[Lanes]], Sequence[Lanes]],
) -> list[Lanes]:
    """What `step(offset, lanes)` makes of the lanes, for offset = start, start + 8, .. < stop."""
    before = builder.block
    head, body, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    offset = builder.phi(_INDEX)
    carried = [builder.phi(_DOUBLES) for _ in initial]
    builder.cbranch(builder.icmp_signed("<", offset, stop), body, after)
    builder.position_at_end(body)
    changed = step(offset, [Lanes(builder, value) for value in carried])
    entering = [start, *(lanes.value for lanes in initial)]
    returning = [builder.add(offset, _INDEX(WIDTH)), *(lanes.value for lanes in changed)]
    for phi, first, then in zip([offset, *carried], entering, returning, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return [Lanes(builder, value) for value in carried]


def _everywhere(builder: ir.IRBuilder, value: ir.Value) -> Lanes:
    """A number known when the kernel runs, in every lane."""
    first = builder.insert_element(_doubles(0.0), value, ir.IntType(32)(0))
    lanes = Lanes(builder, first)
    return Lanes(builder, _shuffled(lanes, lanes, [0] * WIDTH))


def _zeros(builder: ir.IRBuilder, count: int = 1) -> list[Lanes]:
    return [Lanes(builder, _doubles(0.0))] * count


def _totals(four: Sequence[Lanes]) -> Lanes:
    """The sums of four lots of lanes, in the first four lanes."""
    pairs = _halved(_halved(*four[:2]), _halved(*four[2:]))
    return _halved(pairs, pairs)


def _halved(a: Lanes, b: Lanes) -> Lanes:
    # a0 + a1, a2 + a3, ..., b6 + b7
    even, odd = (Lanes(a.builder, _shuffled(a, b, range(n, 2 * WIDTH, 2))) for n in (0, 1))
    return even + odd


def _shuffled(a: Lanes, b: Lanes, lanes: Sequence[int]) -> ir.Value:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return a.builder.shuffle_vector(a.value, b.value, mask)


def _doubles(value: float) -> ir.Constant:
    return ir.Constant(_DOUBLES, [value] * WIDTH)


def _integers(value: int) -> ir.Constant:
    return ir.Constant(_INTEGERS, [value] * WIDTH)


BLOCK = 8  # rows that one step of `distances` finishes together
QUAD = 4  # rows that one loop compares with another row at once

_SCALE = 2.0**300
_ROOT_SCALE = 2.0**150
_BELOW_ALL = 2.0**-1000  # under every scaled number but 0
_SMALLEST = 5e-324
_SPLIT = 2.0**20
_EXPONENT_OF_1 = 2.0**52 + 1023.0  # as `Lanes.exponent_and_mantissa` gives it
_SUM_TOLERANCE = 1.000001e-6  # a hair above what the message says

_RATIO = 2.72  # e, and some room: what softmax of probabilities can reach
_WIDE = 0.4624  # (_RATIO - 1) / (_RATIO + 1)
_NEAR = 8e-3 * _SCALE  # bits; (3) is exact to 8e-15, so the root to 5e-13 of itself here
_NEAR_NARROW = 4e-8 * _SCALE  # bits; x is exact to about 3e-16, and is about 5e-4 here
_UNKNOWN = -1.0
_ROUNDING = 1e-15  # bits; an entropy below it is that of one certain outcome

_ROOT2 = math.sqrt(2.0)
_LN2 = math.log(2.0)

# log2((1+z)/(1-z)) / z in z^2, |z| <= (sqrt 2 - 1) / (sqrt 2 + 1); to 5e-16
_LOG2 = (
    2.885390081777927,
    0.9617966939243187,
    0.5770780172526805,
    0.41219840112535017,
    0.32061644867617173,
    0.26144241979234895,
    0.24293681231509032,
)
# The same to 8e-15 only, but as good at both ends: powers of 2 keep their logarithms
_LOG2_SHORT = (
    2.885390081777376,
    0.9617966944402109,
    0.5770778792737057,
    0.41221422107485717,
    0.3197345628506216,
    0.2850427568090452,
)
# phi in u, |t| <= _WIDE; to 3e-16 of it
_PHI = (
    1.0000000000000002,
    0.16666666666640248,
    0.06666666671534727,
    0.03571428222192462,
    0.022222350365457662,
    0.015148783469965994,
    0.011025084832051583,
    0.008030505980306578,
    0.008140040394374094,
    0.00017302369852023537,
    0.012646569623529533,
)
# psi in y, y <= ln^2 _RATIO; to 4e-15 of it
_PSI = (
    0.4999999999999981,
    -0.02083333333309382,
    0.001041666661610532,
    -5.580353067411159e-05,
    3.2722697497519372e-06,
    -2.102427472147742e-07,
    1.4235624528014e-08,
    -8.042689527495348e-10,
)
_PSI_OF_BITS = tuple(c * _LN2 ** (2 * power) / 4.0 for power, c in enumerate(_PSI))
# B in u, |t| <= _WIDE; to 9e-15 of it
_B = (
    0.3333333333333361,
    0.19999999999688717,
    0.1428571434339513,
    0.11111106954629038,
    0.09091062125215896,
    0.07689037386003432,
    0.06709915357782407,
    0.05519219459210459,
    0.07183764977355621,
    -0.013047437335599505,
    0.14140578187295566,
)


class Rows(NamedTuple):
    """What is kept of the rows of some maps, padded with zeros to a multiple of 8 numbers."""

    high: Floats  # (maps n + 3, width): row / its sum * 2^300 is high + low
    low: Floats
    logs: Floats  # log2 high, less a constant
    prefix: Floats  # (maps n + 3, width + 8): running sums of h, in eight lanes
    least: Floats  # (maps n + 3,): of the numbers as they came
    most: Floats
    first: Integers  # (maps n + 3,): multiples of 8 around the columns that are not 0
    last: Integers


def empty_rows(maps: int, n: int, k: int) -> Rows:
    """Room for `prepare` on that many maps of n rows of k numbers."""
    rows, width = maps * n + QUAD - 1, -(-k // WIDTH) * WIDTH
    sizes = [rows * width] * 3 + [rows * (width + WIDTH)] + [rows] * 4
    parts = np.split(_aligned(sum(sizes)), np.cumsum(sizes)[:-1])
    high, low, logs, prefix = (part.reshape(rows, -1) for part in parts[:4])
    for matrix in (high, low, logs, prefix):
        matrix[maps * n :] = 0.0
    least, most = parts[4:6]
    first, last = (part.view(np.int64) for part in parts[6:])
    return Rows(high, low, logs, prefix, least, most, first, last)


def first_rows(rows: Rows, count: int) -> Rows:
    """The first so many of some rows, in the same memory."""
    high, low, logs, prefix, least, most, first, last = rows
    matrices = high[:count], low[:count], logs[:count], prefix[:count]
    return Rows(*matrices, least[:count], most[:count], first[:count], last[:count])


def _aligned(size: int) -> Floats:
    # One piece, because the allocator hands small ones back to the system after every
    # call; on a cache line, because eight numbers that straddle two are slow to write.
    room = np.empty(size + WIDTH)
    start = -room.ctypes.data % (8 * WIDTH) // 8
    return room[start : start + size]


def _log2(v: Lanes, exponent_of_1: Lanes | float, coefficients: Sequence[float] = _LOG2) -> Lanes:
    # Less 1/2: the range of m is centred on sqrt 2, not 1. Finite at 0.
    exponent, m = v.exponent_and_mantissa()
    z = (m - _ROOT2) / (m + _ROOT2)
    return z.times((z * z).polynomial(coefficients), exponent - exponent_of_1)


def _build_copy(builder: ir.IRBuilder, p: Matrix, high: Matrix, r: Any, stop: Any) -> None:
    source, target = p.row(r), high.row(r)

    def step(c: Any, _: list[Lanes]) -> list[Lanes]:
        target[c] = source[c]
        return []

    _looped(builder, _INDEX(0), stop, [], step)


@intrinsic
def _copy(_typing, p, high, r, stop):  # type: ignore[no-untyped-def]
    return types.void(p, high, r, stop), _building(_build_copy)


def _build_survey(builder: ir.IRBuilder, high: Matrix, r: Any) -> list[Any]:
    row = high.row(r)

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        coarse, fine, zeros, lowest, least, most, first, last, at = carried
        v = row[c]
        # Multiples of 2^-32 add up exactly; what they leave is too small to lose any.
        rounded = (v + _SPLIT) - _SPLIT
        return [
            coarse + rounded,
            fine + (v - rounded),
            zeros + v.chosen(_SMALLEST, 1.0, 0.0),
            v.lesser(lowest),
            v.chosen(_SMALLEST, math.inf, v).lesser(least),
            v.greater(most),
            v.chosen(_SMALLEST, math.inf, at).lesser(first),
            v.chosen(_SMALLEST, last, at),
            at + float(WIDTH),
        ]

    infinite = Lanes(builder, _doubles(math.inf))
    initial = _zeros(builder, 9)
    initial[3] = initial[4] = initial[6] = infinite
    coarse, fine, zeros, lowest, least, most, first, last, _ = _looped(
        builder, _INDEX(0), row.size, initial, step
    )
    return [
        *(value.total() for value in (coarse, fine, zeros)),
        *(value.folded(Lanes.lesser) for value in (lowest, least, first)),
        *(value.folded(Lanes.greater) for value in (most, last)),
    ]


@intrinsic
def _survey(_typing, high, r):  # type: ignore[no-untyped-def]
    return types.UniTuple(types.float64, 8)(high, r), _building(_build_survey)


def _build_fill(builder: ir.IRBuilder, *arguments: Any) -> None:
    *matrices, r, total, rest, bias = arguments
    high, low, logs, prefix = (matrix.row(r) for matrix in matrices)
    total, rest, bias = (_everywhere(builder, value) for value in (total, rest, bias))
    inverse = Lanes(builder, _doubles(1.0)) / total

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        v = high[c] * _SCALE
        head = v * inverse
        log = _log2(head, bias)
        running = head.times(log, carried[0])
        high[c], logs[c] = head, log
        low[c] = ((-head).times(total, v) - head * rest) * inverse
        prefix[builder.add(c, _INDEX(WIDTH))] = running
        return [running]

    prefix[_INDEX(0)] = _zeros(builder)[0]
    _looped(builder, _INDEX(0), high.size, _zeros(builder), step)


@intrinsic
def _fill(_typing, high, low, logs, prefix, r, total, rest, bias):  # type: ignore[no-untyped-def]
    signature = types.void(high, low, logs, prefix, r, total, rest, bias)
    return signature, _building(_build_fill)


def _build_add_smoothed(
    builder: ir.IRBuilder, high: Matrix, r: Any, epsilon: Any, sums: Matrix
) -> Any:
    row, epsilon = high.row(r), _everywhere(builder, epsilon)
    numbers, logs = sums.row(_INDEX(0)), sums.row(_INDEX(1))

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        v = row[c]
        log = _log2(v + epsilon, _EXPONENT_OF_1 + 300.0)
        numbers[c], logs[c] = numbers[c] + v, logs[c] + log
        return [v.times(log, carried[0])]

    return _looped(builder, _INDEX(0), row.size, _zeros(builder), step)[0].total()


@intrinsic
def _add_smoothed(_typing, high, r, epsilon, sums):  # type: ignore[no-untyped-def]
    return types.float64(high, r, epsilon, sums), _building(_build_add_smoothed)


def _build_far(builder: ir.IRBuilder, *arguments: Any) -> None:
    high, prefix, i, j, start, stop, bias, found, r, at = arguments
    bias = _everywhere(builder, bias)
    p, others = high.row(i), high.rows(j)
    running = prefix.row(i)
    own = running[stop] - running[start]

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        numbers = p[c]
        sums = [numbers + q[c] for q in others]
        return [
            (-s).times(_log2(s, bias, _LOG2_SHORT), total)
            for s, total in zip(sums, carried, strict=True)
        ]

    initial = [own + (theirs[stop] - theirs[start]) for theirs in prefix.rows(j)]
    value = _totals(_looped(builder, start, stop, initial, step)) * 0.5 + _SCALE
    found.row(r).put(at, value.chosen(_NEAR, _UNKNOWN, value), QUAD)


@intrinsic
def _far(_typing, high, prefix, i, j, start, stop, bias, found, r, at):  # type: ignore[no-untyped-def]
    signature = types.void(high, prefix, i, j, start, stop, bias, found, r, at)
    return signature, _building(_build_far)


def _build_narrow(builder: ir.IRBuilder, *arguments: Any) -> None:
    high, logs, i, j, found, r, at = arguments
    p, log = high.row(i), logs.row(i)
    others = list(zip(high.rows(j), logs.rows(j), strict=True))

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        numbers, mine = p[c], log[c]
        changed = []
        for (q, theirs), total in zip(others, carried, strict=True):
            x = mine - theirs[c]
            changed.append(((numbers - q[c]) * x).times((x * x).polynomial(_PSI_OF_BITS), total))
        return changed

    value = _totals(_looped(builder, _INDEX(0), p.size, _zeros(builder, QUAD), step))
    found.row(r).put(at, value.chosen(_NEAR_NARROW, _UNKNOWN, value), QUAD)


@intrinsic
def _narrow(_typing, high, logs, i, j, found, r, at):  # type: ignore[no-untyped-def]
    return types.void(high, logs, i, j, found, r, at), _building(_build_narrow)


def _build_near(builder: ir.IRBuilder, high: Matrix, low: Matrix, i: Any, j: Any) -> Any:
    p, q, p_low, q_low = high.row(i), high.row(j), low.row(i), low.row(j)

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        d = abs((p[c] - q[c]) + (p_low[c] - q_low[c]))
        s = p[c] + q[c] + _BELOW_ALL
        t = d / s
        small = d * t * (t * t).polynomial(_PHI)

        def with_large() -> list[Lanes]:
            a, b = t + 1.0, 1.0 - t
            bits = a.times(_log2(a, _EXPONENT_OF_1), b * _log2(b, _EXPONENT_OF_1)) + 1.0
            return [t.chosen(_WIDE, small, s * bits * _LN2)]

        return [carried[0] + t.reaching(_WIDE, with_large, [small])[0]]

    (total,) = _looped(builder, _INDEX(0), p.size, _zeros(builder), step)
    return (total * (0.25 / _LN2)).total()


@intrinsic
def _near(_typing, high, low, i, j):  # type: ignore[no-untyped-def]
    return types.float64(high, low, i, j), _building(_build_near)


def _build_both_ways(builder: ir.IRBuilder, *arguments: Any) -> list[Any]:
    high, low, logs, i, j = arguments
    p, q, p_low, q_low, p_log, q_log = (m.row(r) for m in (high, low, logs) for r in (i, j))

    def step(c: Any, carried: list[Lanes]) -> list[Lanes]:
        d = (p[c] - q[c]) + (p_low[c] - q_low[c])
        t = d / (p[c] + q[c] + _BELOW_ALL)
        u = t * t
        b = u.polynomial(_B)
        mean, half = u.times(b, 1.0), t * b
        small = [d * t * (mean + half), d * t * (mean - half)]

        def with_large() -> list[Lanes]:
            x = (p_log[c] - q_log[c]) * _LN2
            forth = q[c].chosen(_BELOW_ALL, math.inf, p[c] * x - d)
            back = p[c].chosen(_BELOW_ALL, math.inf, d - q[c] * x)
            return [
                abs(t).chosen(_WIDE, near, far)
                for near, far in zip(small, (forth, back), strict=True)
            ]

        terms = abs(t).reaching(_WIDE, with_large, small)
        return [total + term for total, term in zip(carried, terms, strict=True)]

    return [
        value.total() for value in _looped(builder, _INDEX(0), p.size, _zeros(builder, 2), step)
    ]


@intrinsic
def _both_ways(_typing, high, low, logs, i, j):  # type: ignore[no-untyped-def]
    signature = types.UniTuple(types.float64, 2)(high, low, logs, i, j)
    return signature, _building(_build_both_ways)


def _build_lowest(builder: ir.IRBuilder, found: Matrix, r: Any, stop: Any) -> Any:
    row = found.row(r)
    (lowest,) = _looped(
        builder, _INDEX(0), stop, _zeros(builder), lambda c, low: [row[c].lesser(low[0])]
    )
    return lowest.folded(Lanes.lesser)


@intrinsic
def _lowest(_typing, found, r, stop):  # type: ignore[no-untyped-def]
    return types.float64(found, r, stop), _building(_build_lowest)


def _build_roots(builder: ir.IRBuilder, found: Matrix, r: Any, stop: Any, unit: Any) -> None:
    row, unit = found.row(r), _everywhere(builder, unit)

    def step(c: Any, _: list[Lanes]) -> list[Lanes]:
        row[c] = row[c].lesser(_SCALE).root() * unit
        return []

    _looped(builder, _INDEX(0), stop, [], step)


@intrinsic
def _roots(_typing, found, r, stop, unit):  # type: ignore[no-untyped-def]
    return types.void(found, r, stop, unit), _building(_build_roots)


_COMPILED: Any = {"error_model": "numpy", "nogil": True, "cache": True}

# In these functions every array is taken out of its tuple once, and none is sliced: numba
# counts references to arrays, and a count that two threads keep is slow.


@njit(**_COMPILED)
def prepare(p: Floats, rows: Rows, part: int, parts: int) -> bool:
    """Fill one of so many parts of the rows, from p (maps n, k) of float32 or float64.

    Stops, and is False, at a row that is no distribution.
    """
    high, low, logs, prefix, leasts, mosts, firsts, lasts = rows
    k, width = p.shape[1], high.shape[1]
    whole = k // WIDTH * WIDTH
    exponent_of_mean = _exponent_of_mean(k)
    for r in range(len(p) * part // parts, len(p) * (part + 1) // parts):
        _copy(p, high, r, whole)
        for c in range(whole, width):
            high[r, c] = p[r, c] if c < k else 0.0
        coarse, fine, zeros, lowest, least, first, most, last = _survey(high, r)
        total = coarse + fine
        if not (lowest >= 0.0 and abs(total - 1.0) <= _SUM_TOLERANCE):
            return False
        rest = (coarse - total) + fine
        _fill(high, low, logs, prefix, r, total, rest, exponent_of_mean)
        leasts[r] = least if zeros == width - k else 0.0
        mosts[r] = most
        firsts[r] = int(first)
        lasts[r] = int(last) + WIDTH
    return True


@njit(**_COMPILED)
def entropies(rows: Rows, k: int, unit: float, part: int, parts: int, out: Floats) -> None:
    """Write one of so many parts of the entropies of all rows (maps n,).

    The unit is the entropy in which one bit is counted: 1 at base 2.
    """
    prefix = rows.prefix
    end = prefix.shape[1] - WIDTH
    # The logarithms are less this much, which counts once in all, as the row sums to 1.
    constant = math.floor(math.log2(k)) - 0.5
    for r in range(len(out) * part // parts, len(out) * (part + 1) // parts):
        total = 0.0
        for lane in range(WIDTH):
            total += prefix[r, end + lane]
        bits = constant - total / _SCALE
        out[r] = bits * unit if bits > _ROUNDING else 0.0


@njit(**_COMPILED)
def mean_divergences(
    rows: Rows, epsilon: float, unit: float, part: int, parts: int, out: Floats
) -> None:
    """Write one of so many parts of the mean smoothed divergences (maps,).

    The unit is the divergence in which one bit is counted: 1 at base 2.
    """
    high = rows.high
    maps, width = len(out), high.shape[1]
    n = (len(high) - QUAD + 1) // maps
    sums = np.zeros((2, width))
    for m in range(maps * part // parts, maps * (part + 1) // parts):
        sums[:] = 0.0
        own = 0.0
        for r in range(m * n, m * n + n):
            own += _add_smoothed(high, r, epsilon * _SCALE, sums)
        across = 0.0
        for c in range(width):
            across += sums[0, c] * sums[1, c]
        out[m] = (n * own - across) / _SCALE / max(n * (n - 1), 1) * unit


@njit(**_COMPILED)
def _exponent_of_mean(k: int) -> float:
    # Logarithms count from 1 / k, about, so that most are small and lose few digits.
    return _EXPONENT_OF_1 + 300.0 - math.floor(math.log2(k))


@njit(**_COMPILED)
def distances(rows: Rows, k: int, unit: float, part: int, parts: int, out: Floats) -> None:
    """Write one of so many parts of the distances (maps, n, n).

    The unit is the distance in which one bit is counted: 1 at base 2.
    """
    high, low, logs, prefix, leasts, mosts, firsts, lasts = rows
    maps, n = out.shape[:2]
    blocks = -(-n // BLOCK)
    exponent_of_mean = _exponent_of_mean(k)
    found = np.zeros((BLOCK, -(-n // WIDTH) * WIDTH + WIDTH))
    for task in range(maps * blocks * part // parts, maps * blocks * (part + 1) // parts):
        m, step = task // blocks, task % blocks
        # Long and short blocks in turn, so that parts of a map take the same time.
        block = blocks - 1 - step // 2 if step % 2 == 0 else step // 2
        start, stop = block * BLOCK, min(block * BLOCK + BLOCK, n)
        for j in range(0, stop, QUAD):
            # The loops take four rows whatever they are; what comes of the rows from i on
            # is not used.
            b = m * n + j
            least, most, first, last = leasts[b], mosts[b], firsts[b], lasts[b]
            for q in range(b + 1, m * n + min(j + QUAD, stop)):
                least, most = min(least, leasts[q]), max(most, mosts[q])
                first, last = min(first, firsts[q]), max(last, lasts[q])
            for i in range(max(start, j + 1), stop):
                a = m * n + i
                if mosts[a] <= _RATIO * least and most <= _RATIO * leasts[a]:
                    _narrow(high, logs, a, b, found, i - start, j)
                else:
                    lo = max(first, firsts[a])
                    hi = max(lo, min(last, lasts[a]))
                    _far(high, prefix, a, b, lo, hi, exponent_of_mean, found, i - start, j)
        for i in range(start, stop):
            if _lowest(found, i - start, i) == _UNKNOWN:
                for j in range(i):
                    if found[i - start, j] == _UNKNOWN:
                        found[i - start, j] = _near(high, low, m * n + i, m * n + j)
            _roots(found, i - start, i, unit / _ROOT_SCALE)
            for j in range(i):
                out[m, i, j] = found[i - start, j]
            out[m, i, i] = 0.0
        for j in range(stop):
            for i in range(max(start, j + 1), stop):
                out[m, j, i] = found[i - start, j]


@njit(**_COMPILED)
def divergences(rows: Rows, unit: float, part: int, parts: int, out: Floats) -> None:
    """Write one of so many parts of the divergences (maps, n, n).

    [m, i, j] is KL(row i || row j). The unit is the result in which one nat is counted.
    """
    high, low, logs = rows[:3]
    maps, n = out.shape[:2]
    for task in range(maps * n * part // parts, maps * n * (part + 1) // parts):
        m, step = task // n, task % n
        i = n - 1 - step // 2 if step % 2 == 0 else step // 2
        out[m, i, i] = 0.0
        for j in range(i):
            forth, back = _both_ways(high, low, logs, m * n + i, m * n + j)
            out[m, i, j] = forth / _SCALE * unit
            out[m, j, i] = back / _SCALE * unit
