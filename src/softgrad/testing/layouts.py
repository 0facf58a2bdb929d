"""A way to call a target as a function of NumPy arrays in rows: its library, its layout, its logits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..checks import Array
from . import convert
from .autograd import Function, Way
from .convert import Unusable
from .errors import DType
from .operations import LABELS, Arrays, Operation
from .oracle import softmax as oracle_softmax

LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}
LAYOUTS = {
    "rows": "rows of a 2-D array",
    "3-D": "rows of a 3-D array",
    "4-D": "rows of a 4-D array",
    "columns": "columns of a 2-D array (--axis 0)",
    "(n,)": "one row at a time, of shape (n,)",
    "(n, 1)": "one row at a time, of shape (n, 1)",
    "(1, n)": "one row at a time, of shape (1, n)",
}


@dataclass
class Seen:
    """What the results of a function were, before they became arrays of the dtype."""

    library: str = ""  # another than the one whose arrays it was given
    dtype: str = ""  # a wider one


def imported(module: ModuleType | None, library: str | None) -> list[str]:
    if library:
        return [library]
    return [name for name in LIBRARIES if name == "numpy" or name in sys.modules]


def logits(map: str, y: Array) -> Array:
    """Logits of which y is the map, rounded to its dtype.

    For sparsemax and entmax they are those with the threshold 0; what is not in the support lies below it.
    """
    with np.errstate(all="ignore"):
        if map == "softmax":
            x = np.log(y)
        elif map == "log_softmax":
            x = y.copy()
        else:
            x = np.where(y > 0, 2 * np.sqrt(y) if map == "entmax" else y, -1).astype(y.dtype)
            x = np.where(np.isnan(y), y, x).astype(y.dtype)
    x.flags.writeable = y.flags.writeable
    return x


def single(result: Any, shape: tuple[int, ...]) -> Any:
    """The result as an array; of several the only one of the shape, or the first."""
    if isinstance(result, tuple | list):
        fit = [one for one in result if getattr(one, "shape", None) == shape]
        arrays = [one for one in result if getattr(one, "shape", ())]
        if len(fit) == 1 or (isinstance(result, tuple) and arrays):
            result = fit[0] if len(fit) == 1 else arrays[0]
    return np.asarray(result)


def times_jacobian(result: Array, dy: Array) -> Array:
    """dx of a Jacobian, of one row or for each; of a derivative of each element, that times dy."""
    if result.ndim == dy.ndim + 1 or result.shape == (dy.size, dy.size) != dy.shape:
        wide = result.reshape(*dy.shape[:-1], -1, dy.shape[-1]) if dy.ndim == 2 else result
        if wide.ndim == dy.ndim + 1:
            return np.asarray((wide * dy[..., None]).sum(axis=-2).astype(dy.dtype))
    return np.asarray(result * dy) if result.shape == dy.shape else result


def of_layout(call: Function, layout: str, results: int) -> Function:
    """A function of arrays in a layout as one of rows."""

    def whole(*arrays: Array, **options: Any) -> Arrays:
        found = call(*arrays, **options)
        if results > 1 and isinstance(found, tuple | list):
            return tuple(map(np.asarray, found))
        shape = max((a.shape for a in arrays), key=len)
        return (single(found, shape),)

    def by_columns(*arrays: Array) -> Arrays:
        return tuple(a.T for a in whole(*(a.T for a in arrays)))

    def deeper(*arrays: Array) -> Arrays:
        more = (None,) * (int(layout[0]) - 2)
        return tuple(a.reshape(a.shape[-2:]) if a.size else a for a in whole(*(a[more] for a in arrays)))

    def one_by_one(*arrays: Array) -> Arrays:
        shape = {"(n,)": (-1,), "(n, 1)": (-1, 1), "(1, n)": (1, -1)}[layout]
        n = arrays[0].shape[-1]
        columns: list[list[Array]] = [[] for _ in range(results)]
        for rows in zip(*arrays, strict=True):
            found = whole(*(a.reshape(shape) for a in rows))
            if len(found) != results:
                return found
            for column, one in zip(columns, found, strict=True):
                if one.shape not in ((n,), (n, 1), (1, n)) or (one.ndim == 2 and layout == "(n,)"):
                    return (one,)  # of a shape that is no row's
                column.append(one.reshape(n))
        return tuple(map(np.stack, columns))

    by_name = {"rows": whole, "columns": by_columns, "3-D": deeper, "4-D": deeper}
    return by_name.get(layout, one_by_one)


def of_rows(
    way: Way, tested: Operation, layout: str, library: str, device: str | None, seen: Seen
) -> Function:
    """A way as a function of NumPy arrays in rows, in the order of the operation."""
    names = tested.names
    several = tested.results

    def noted(*arrays: Any, **options: Any) -> Any:
        result = way.call(*arrays, **options)
        one = result[0] if isinstance(result, tuple | list) and result else result
        for other in imported(None, None):
            if other not in ("numpy", library) and isinstance(one, convert.array_type(other)):
                seen.library = other
        return result

    call = convert.on_numpy(noted, library, device or "cpu")
    by_layout = of_layout(call, layout, several)
    jacobian = tested.what == "vjp" and set(way.roles) <= {"x", "y"} and "dy" in names

    def function(*arguments: Array, axis: int = -1) -> Any:
        given = dict(zip(names, arguments, strict=True))
        x = None
        if "y" in way.roles and "y" not in given:
            y = oracle_softmax(given["x"]).astype(given["x"].dtype)
            y.flags.writeable = given["x"].flags.writeable
            given["y"] = y
        if tested.map == LABELS:
            given["t"] = given["t"].argmax(axis=-1)
        if "x" in way.roles and "x" not in given:
            given["x"] = x = logits(tested.base, given["y"])
            before = x.tobytes()
        options = {"axis": axis} if way.axis else {}
        if jacobian:
            results: Arrays = (product_of(way, given, options),)
        else:
            results = by_layout(*(given[role] for role in way.roles), **options)
        if x is not None and x.tobytes() != before:
            given["y"][...] = x  # as it changes its logits: the checks look for it in y
        dtype = arguments[0].dtype
        for i, one in enumerate(results):
            if wider(one.dtype, dtype):
                seen.dtype = str(one.dtype)
                results = (*results[:i], one.astype(dtype), *results[i + 1 :])
        return results if several > 1 else results[0]

    def product_of(way: Way, given: dict[str, Array], options: dict[str, Any]) -> Array:
        array, dy = given[way.roles[0]], given["dy"]
        if layout == "rows":
            return times_jacobian(np.asarray(call(array, **options)), dy)
        if layout != "(n,)":
            raise Unusable("a Jacobian is that of rows")
        return np.stack(
            [times_jacobian(np.asarray(call(a, **options)), d) for a, d in zip(array, dy, strict=True)]
        )

    return function


def wider(dtype: DType, given: DType) -> bool:
    """Whether a result is of a wider real type: it is rounded before it is judged, and the report says so."""
    return dtype != given and dtype.kind == "f" and dtype.itemsize > given.itemsize
