"""The derivative of the vjp, along a tile, for the cotangent v of its result.

With m = ⟨s,dy⟩/⟨s,1⟩ and n = ⟨s,v⟩/⟨s,1⟩ the means,

    grad_dy = s ∘ (v − n)
    grad_x  = s ∘ (p − ⟨s,p⟩/⟨s,1⟩),  p = s′ ∘ (v − n) ∘ (dy − m)

which are J v and J p: the derivative of ⟨v, J dy⟩ by s is (v − n) ∘ (dy − m), and s′ = ds/dy.
"""

from .buffer import buffer
from .compiling import inline
from .mean import pair, safe_mean
from .memory import load, store, zeros
from .places import alive, at, place_of, row_sum, table_of, tile_of
from .sparse_vjp import refined, triple
from .sums import two_sum, wide_zero
from .vec import as_type_of, fma, select
from .weights import slope


@inline
def centred(d, hi, lo, zero):
    """d − (hi + lo), in the type of `zero`."""
    return (as_type_of(d, zero) - as_type_of(hi, zero)) - as_type_of(lo, zero)


@inline
def steep(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor, zero):
    """The weights of vector k and their derivative in the type of `zero`, and factor·dy."""
    w, rest, d = triple(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor)
    s = as_type_of(w, zero) + as_type_of(rest, zero)
    return s, slope(alpha, as_type_of(load(y, at(y_at, k), alive(tile, k), 0.0), zero), s), d


@inline
def double_backward_tile(y, y_at, dy, dy_at, v, v_at, grad_x, x_at, grad_dy, dy_out_at, tile, alpha, scale):
    count = tile[0]
    zero = wide_zero(y)
    first = y, y_at, dy, dy_at, None, y_at, tile
    second = y, y_at, v, v_at, None, y_at, tile
    hi, lo, b, factor = refined(*first, alpha, safe_mean(*first, alpha))
    v_hi, v_lo, _, v_factor = refined(*second, alpha, safe_mean(*second, alpha))

    # in two parts: long rows with a winner would lose what is left of the others
    total, rest = zero, zero
    for k in range(count):
        s, s_slope, d = steep(*first, k, alpha, factor, zero)
        _, u = pair(*second, k, alpha, v_factor)
        total, lost = two_sum(total, s * s_slope * (centred(d, hi, lo, zero) * centred(u, v_hi, v_lo, zero)))
        rest = rest + lost
    covariance = row_sum(total + rest, tile) / b
    undo, v_undo = as_type_of(1.0 / factor, zero), as_type_of(1.0 / v_factor, zero)

    for k in range(count):
        s, s_slope, d = steep(*first, k, alpha, factor, zero)
        _, u = pair(*second, k, alpha, v_factor)
        u = centred(u, v_hi, v_lo, zero)
        spread = fma(centred(d, hi, lo, zero) * s_slope, u, covariance * -1.0)
        live = alive(tile, k)
        some = b != 0.0
        spread, u = spread * undo * v_undo, u * v_undo
        store(grad_x, at(x_at, k), as_type_of(select(some, s * spread * scale * scale, 0.0), zeros(y)), live)
        store(grad_dy, at(dy_out_at, k), as_type_of(select(some, s * u * scale, 0.0), zeros(y)), live)


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
