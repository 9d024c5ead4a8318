# mypy: disable-error-code="untyped-decorator"
"""What the kernels need of the machine and numba does not offer: each is no or one instruction.

Numba's cache does not look here when it asks whether a kernel has changed: touch the kernel.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

WORD = ir.IntType(64)
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
