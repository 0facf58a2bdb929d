"""The derivative of the vjp, along a tile, for the cotangent v of its result.

With m = ⟨s,dy⟩/⟨s,1⟩ and n = ⟨s,v⟩/⟨s,1⟩ the means,

    grad_dy = s ∘ (v − n)
    grad_x  = s ∘ (p − ⟨s,p⟩/⟨s,1⟩),  p = (v − n) ∘ (dy − m)

which is J v and, after Jc = 0 for a constant c was used to centre both factors, J (v∘(dy − m) − dy·n).
"""

from .buffer import buffer
from .compiling import inline
from .mean import pair, safe_mean
from .memory import store
from .places import alive, at, place_of, row_sum, table_of, tile_of
from .sums import wide_zero
from .vec import as_type_of, fma, select


@inline
def centred(d, hi, lo, zero):
    """d − (hi + lo), in the type of `zero`."""
    return (as_type_of(d, zero) - as_type_of(hi, zero)) - as_type_of(lo, zero)


@inline
def double_backward_tile(y, y_at, dy, dy_at, v, v_at, grad_x, x_at, grad_dy, dy_out_at, tile, alpha, scale):
    count = tile[0]
    zero = wide_zero(y)
    first = y, y_at, dy, dy_at, None, y_at, tile
    second = y, y_at, v, v_at, None, y_at, tile
    hi, lo, b, factor = safe_mean(*first, alpha)
    v_hi, v_lo, _, v_factor = safe_mean(*second, alpha)

    total = zero
    for k in range(count):
        w, d = pair(*first, k, alpha, factor)
        _, u = pair(*second, k, alpha, v_factor)
        product = centred(d, hi, lo, zero) * centred(u, v_hi, v_lo, zero)
        total = fma(as_type_of(w, zero), product, total)
    covariance = row_sum(total, tile) / b
    undo, v_undo = as_type_of(1.0 / factor, zero), as_type_of(1.0 / v_factor, zero)

    for k in range(count):
        w, d = pair(*first, k, alpha, factor)
        _, u = pair(*second, k, alpha, v_factor)
        s, u = as_type_of(w, zero), centred(u, v_hi, v_lo, zero)
        spread = fma(centred(d, hi, lo, zero), u, covariance * -1.0)
        live = alive(tile, k)
        some = b != 0.0
        spread, u = spread * undo * v_undo, u * v_undo
        store(grad_x, at(x_at, k), as_type_of(select(some, s * spread * scale * scale, 0.0), w), live)
        store(grad_dy, at(dy_out_at, k), as_type_of(select(some, s * u * scale, 0.0), w), live)


def double_backward(
    y, dy, v, grad_x, grad_dy, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop
):
    """Both gradients of the tiles `start` … `stop` − 1 (see `places`)."""
    y, dy, v, grad_x, grad_dy = buffer(y), buffer(dy), buffer(v), buffer(grad_x), buffer(grad_dy)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    for i in range(start, stop):
        double_backward_tile(
            y,
            place_of(i, 0, grid, steps, spread, across),
            dy,
            place_of(i, 1, grid, steps, spread, across),
            v,
            place_of(i, 2, grid, steps, spread, across),
            grad_x,
            place_of(i, 3, grid, steps, spread, across),
            grad_dy,
            place_of(i, 4, grid, steps, spread, across),
            tile_of(i, form, across),
            alpha,
            scale,
        )
