"""What a caller gives -> an array of NumPy's: tensors of torch too, without importing it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

# Types of torch's that NumPy has not -> one that holds all their values.
_NARROW = ("bfloat16", "float8")


def array(values: Any) -> npt.NDArray[Any]:
    """An array; a tensor comes from whatever device it is on, without its gradient.

    Nothing is copied that need not be. Raises InputError for a tensor without numbers to read
    (sparse, or on the device "meta"), and what NumPy raises for anything else.
    """
    if isinstance(values, list | tuple):
        return np.asarray([array(value) if _is_tensor(value) else value for value in values])
    if not _is_tensor(values):
        return np.asarray(values)
    try:
        dense = values.detach().cpu()
        narrow = any(name in str(dense.dtype) for name in _NARROW)
        return np.asarray((dense.float() if narrow else dense).numpy())
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"A tensor of {values.dtype} on {values.device} cannot be read ({error}); give a dense "
            "one of real numbers: tensor.to_dense()"
        ) from error


def reals(values: Any, name: str) -> npt.NDArray[Any]:
    """The same, of real numbers; InputError with the name of what came where they are none."""
    found = array(values)
    if found.dtype.kind not in "fiub":
        raise InputError(f"{name} hold {found.dtype}; give real numbers, float64 where you can")
    return found


def _is_tensor(values: Any) -> bool:
    return hasattr(values, "detach") and hasattr(values, "cpu")
