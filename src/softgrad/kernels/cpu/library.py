"""The kernels by name and type: compiled when they are first asked for."""

import functools

import numba
from numba.core import types

from .buffer import BFLOAT16, FLOAT16
from .compiling import compiled
from .double_backward import double_backward
from .entmax import entmax, entmax_packed
from .secular import eigenvalues
from .segments import segment_softmax, segment_softmax_across, segment_vjp, segment_vjp_across
from .sparse_vjp import sparse_vjp, sparse_vjp_packed

ELEMENT = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": types.float32, "float64": types.float64}
NUMBER, INDEX, NOTHING = types.float64, types.int64, types.none
TABLE = types.Array(INDEX, 2, "C", readonly=True)
FORM = types.Array(INDEX, 1, "C", readonly=True)

# name: (function, arrays read, arrays written, whether a mask follows, what else, before start and stop)
KERNELS = {
    "segment_softmax": (segment_softmax, 1, 1, False, [FORM, FORM, *[NUMBER] * 4]),
    "segment_softmax_across": (segment_softmax_across, 1, 1, False, [FORM, FORM, *[NUMBER] * 4]),
    "segment_vjp": (segment_vjp, 2, 1, False, [FORM, FORM, NOTHING, NUMBER]),
    "segment_vjp_across": (segment_vjp_across, 2, 1, False, [FORM, FORM, NOTHING, NUMBER]),
    "sparsemax": (entmax, 1, 1, True, [NUMBER] * 5 + [INDEX]),
    "sparsemax_packed": (entmax_packed, 1, 1, False, [NUMBER] * 5 + [INDEX]),
    "sparsemax_vjp": (sparse_vjp, 2, 1, True, [INDEX, NUMBER]),
    "sparsemax_vjp_packed": (sparse_vjp_packed, 2, 1, False, [INDEX, NUMBER]),
    "sparsemax_double_backward": (double_backward, 3, 2, False, [INDEX, NUMBER]),
    "entmax": (entmax, 1, 1, True, [NUMBER] * 6),
    "entmax_packed": (entmax_packed, 1, 1, False, [NUMBER] * 6),
    "entmax_vjp": (sparse_vjp, 2, 1, True, [NUMBER, NUMBER]),
    "entmax_vjp_packed": (sparse_vjp_packed, 2, 1, False, [NUMBER, NUMBER]),
    "entmax_double_backward": (double_backward, 3, 2, False, [NUMBER, NUMBER]),
}


@functools.cache
def kernel(name, dtype, masked, *ways):
    """The machine code of a kernel for one type of element and one way through memory.

    Parameters
    ----------
    name : a key of `KERNELS`
    dtype : a key of `ELEMENT`
    masked : whether a mask is given
    *ways : spread, mask_spread and across, as in the plan of the call: None or a number
    """
    function, read, written, may_mask, rest = KERNELS[name]
    element = ELEMENT[dtype]
    source, target = (types.Array(element, 1, "C", readonly=fixed) for fixed in (True, False))
    mask = types.Array(types.boolean, 1, "C", readonly=True) if masked else NOTHING
    group = [INDEX] if name.endswith("_packed") else [numba.typeof(way) for way in ways]
    return compiled(
        function,
        *[source] * read,
        *[target] * written,
        *([mask] if may_mask else []),
        *(TABLE, TABLE, FORM),
        *group,
        *rest,
        *(INDEX, INDEX),
    )


@functools.cache
def secular():
    """The machine code of `eigenvalues`, which takes sorted float64 rows one after the other."""
    source, target = (types.Array(types.float64, 1, "C", readonly=fixed) for fixed in (True, False))
    return compiled(eigenvalues, source, target, INDEX, INDEX, INDEX)
