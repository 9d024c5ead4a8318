# mypy: disable-error-code="untyped-decorator"
"""What the kernels need of the machine and numba does not offer: each is no or one instruction.

Numba's cache does not look here when it asks whether a kernel has changed: touch the kernel.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import alloca_once_value, for_range_slice, get_or_insert_function
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

WORD = ir.IntType(64)
TILE = 8
NEVER_ZERO = ir.Constant(ir.IntType(1), 1)


@intrinsic
def lowest_bit(_context: Any, word: types.Type) -> Any:
    """Index of the lowest set bit of a word that is not 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], NEVER_ZERO)

    return types.int64(types.uint64), generate


@intrinsic
def highest_bit(_context: Any, word: types.Type) -> Any:
    """Index of the highest set bit of a word that is not 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.sub(ir.Constant(WORD, 63), builder.ctlz(args[0], NEVER_ZERO))

    return types.int64(types.uint64), generate


@intrinsic
def bits(_context: Any, number: types.Type) -> Any:
    """The bit pattern of a number; of numbers that are not negative, in the same order.

    Least and greatest of integers can be found eight at a time; those of floats cannot.
    """

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], WORD)

    return types.int64(types.float64), generate


@intrinsic
def number(_context: Any, bits: types.Type) -> Any:
    """The number of a bit pattern."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight rows of eight words as columns: blocks of 1, of 2 and of 4 change places in turn."""
    for size in (1, 2, 4):
        first = [lane + (TILE - size if lane & size else 0) for lane in range(TILE)]
        second = [lane + (TILE if lane & size else size) for lane in range(TILE)]
        changed = list(rows)
        for k in range(TILE):
            if not k & size:
                for at, lanes in ((k, first), (k | size, second)):
                    mask = ir.Constant(ir.VectorType(ir.IntType(32), TILE), lanes)
                    changed[at] = builder.shuffle_vector(rows[k], rows[k | size], mask)
        rows = changed
    return rows


@intrinsic
def off_mirror(_context: Any, matrix: types.Array, i: types.Type, j: types.Type) -> Any:
    """0 if the 8 by 8 tile at (i, j) is the transpose of that at (j, i), to the bit.

    The matrix is square, of 64-bit words in C order; what lies outside of it is not checked.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        view, tile = make_array(matrix)(context, builder, args[0]), ir.VectorType(WORD, TILE)
        width = builder.extract_value(view.shape, 1)

        def row(number: Any, column: Any, k: int) -> Any:
            at = builder.add(builder.mul(builder.add(number, WORD(k)), width), column)
            place = builder.bitcast(builder.gep(view.data, [at]), tile.as_pointer())
            return builder.load(place, align=8)

        here = _transposed(builder, [row(args[1], args[2], k) for k in range(TILE)])
        there = [row(args[2], args[1], k) for k in range(TILE)]
        differ = ir.Constant(tile, [0] * TILE)
        for one, other in zip(here, there, strict=True):
            differ = builder.or_(differ, builder.xor(one, other))
        kind = ir.FunctionType(WORD, [tile])
        folded = get_or_insert_function(builder.module, kind, "llvm.vector.reduce.or.v8i64")
        return builder.call(folded, [differ])

    return types.int64(matrix, types.int64, types.int64), generate


@intrinsic
def borrowed(_context: Any, array: types.Array) -> Any:
    """The same array without its reference count: whoever called keeps it alive.

    Numba counts references by an atomic addition for every slice and for most arguments,
    at 5 ns each and more where threads share an array. Use it on arguments of a kernel that
    Python calls, and on nothing that is allocated inside.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        view = make_array(array)(context, builder, args[0])
        view.meminfo = ir.Constant(view.meminfo.type, None)
        view.parent = ir.Constant(view.parent.type, None)
        return view._getvalue()

    return array(array), generate


def _row(work: types.Array, squared: bool) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        data = make_array(work)(context, builder, args[0]).data
        size, i, first, last = args[1:]
        lanes = ir.VectorType(ir.DoubleType(), TILE)

        def place(part: int, at: Any) -> Any:
            at = builder.add(builder.mul(size, WORD(part)), builder.mul(at, WORD(TILE)))
            return builder.bitcast(builder.gep(data, [at]), lanes.as_pointer())

        def load(part: int, at: Any) -> Any:
            return builder.load(place(part, at), align=8)

        def least(x: Any, y: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", x, y), x, y)

        def move(apart: Any) -> Any:
            if squared:
                return builder.fmul(apart, apart)
            kind = ir.FunctionType(lanes, [lanes])
            absolute = get_or_insert_function(builder.module, kind, "llvm.fabs.v8f64")
            return builder.call(absolute, [apart])

        here, leave = load(3, i), load(4, i)
        before = alloca_once_value(builder, load(0, builder.sub(first, WORD(1))))
        left = alloca_once_value(builder, ir.Constant(lanes, [float("inf")] * TILE))
        with for_range_slice(builder, first, last, WORD(1)) as (at, _):
            above = load(0, at)
            matched = builder.fadd(builder.load(before), move(builder.fsub(here, load(1, at))))
            found = least(matched, builder.fadd(above, leave))
            found = least(found, builder.fadd(builder.load(left), load(2, at)))
            builder.store(found, place(0, at), align=8)
            builder.store(above, before)
            builder.store(found, left)
        return context.get_dummy_value()

    return types.void(work, *[types.int64] * 4), generate


@intrinsic
def sweep(_context: Any, work: types.Array, size: Any, i: Any, first: Any, last: Any) -> Any:
    """Row i, columns first to before last, of eight tables of least sums side by side.

    work holds five parts of size numbers each: the row above, which the new one takes the
    place of; of each column the number it stands for, and what leaving it costs; the same of
    each row. What comes into the row is the least of three: the one before in the row above
    plus the difference of row and column; the one above plus leaving the row; the one before
    plus leaving the column.
    """
    return _row(work, squared=False)


@intrinsic
def sweep_squared(_context: Any, work: Any, size: Any, i: Any, first: Any, last: Any) -> Any:
    """The same with the square of the difference."""
    return _row(work, squared=True)
