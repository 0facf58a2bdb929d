"""The product of a simplex map's Jacobian with a vector, along a tile: dx = s ∘ (dy − ⟨s,dy⟩/⟨s,1⟩).

J is symmetric, so this is the vjp and the jvp.  The mean, and what it takes to have it right, is in `mean`.
"""

from numba.core import types

from .compiling import inline, per_type
from .mean import (
    lanes_of,
    mean,
    out_of_range,
    pair,
    safe_mean,
)
from .memory import store
from .places import alive, at, cut_at_line, present, whole
from .vec import LANES, any_of, as_type_of, double, select


def product(v, w, scale):
    """v·w·scale: a step on the way is not out of range unless the result is."""
    raise NotImplementedError("compiled only")


@per_type(product)
def compile_product(v, w, scale):
    if v.dtype == types.float64:

        def of_doubles(v, w, scale):
            if scale == 1.0:
                return v * w
            return (w * scale) * v if abs(scale) > 1.0 else (v * w) * scale

        return of_doubles

    def of_singles(v, w, scale):
        if scale == 1.0:
            return v * w
        return as_type_of(as_type_of(v, double()) * as_type_of(w, double()) * scale, v)

    return of_singles


@inline
def write(y, y_at, dy, dy_at, where, where_at, tile, out, out_at, alpha, scale, hi, lo):
    """s ∘ (dy − (hi + lo)) · scale: the sweep that writes."""
    cut = cut_at_line(out, out_at, (y_at, dy_at, where_at), tile)
    if cut[0] > 0:
        some = cut[0]
        w, d = lanes_of(y, y_at, dy, dy_at, where, where_at, 0, some, alpha, None)
        v = product((d - hi) - lo, w, scale)
        store(out, at(out_at, 0), select(present(where, where_at, 0, some), v, 0.0), some)
    _, out_at, (y_at, dy_at, where_at), tile = cut
    arrays = y, y_at, dy, dy_at, where, where_at
    for k in range(whole(tile)):
        w, d = lanes_of(*arrays, k, LANES, alpha, None)
        v = product((d - hi) - lo, w, scale)
        store(out, at(out_at, k), select(present(where, where_at, k, LANES), v, 0.0), LANES)
    for k in range(whole(tile), tile[0]):
        live = alive(tile, k)
        w, d = pair(*arrays, tile, k, alpha, None)
        v = product((d - hi) - lo, w, scale)
        store(out, at(out_at, k), select(present(where, where_at, k, live), v, 0.0), live)


@inline
def careful_tile(y, y_at, dy, dy_at, where, where_at, tile, out, out_at, alpha, scale):
    """The vjp of a tile in which there may be anything."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b, factor = safe_mean(*arrays, alpha)
    for k in range(tile[0]):
        live = alive(tile, k)
        w, d = pair(*arrays, k, alpha, factor)
        v = select(b == 0.0, 0.0, product((d - hi) - lo, w, scale) * (1.0 / factor))
        store(out, at(out_at, k), select(present(where, where_at, k, live), v, 0.0), live)


@inline
def vjp_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale):
    """The vjp of a tile: the means of its rows, then the rows."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b = mean(*arrays, alpha, None)
    if any_of(out_of_range(y, hi, lo, b)):
        careful_tile(*arrays, out, out_at, alpha, scale)
    else:
        write(*arrays, out, out_at, alpha, scale, hi, lo)
