"""Cross-entropy along a tile: L = Σ t'·(log Σexp(x) − x) and ∂L/∂x = Σt'·p − t', p = softmax(x).

With `top` the largest logit, and R what the powers exp(x − top) of all other elements add up to, the sum of
the powers is S = 1 + R and

    L = Σ t'_k·(top − x_k) + Σt'·log1p(R)

in which no term is negative where no weight is: a loss of 1e-9 has all its digits.  Likewise 1 − p is R/S for
the top, which `p − 1` would lose.  So R is summed apart, and what a row tells (top, R and the sums with the
weights) goes into a table, `found`; the rest of the loss is arithmetic on one number a row.

The weights are t' = share·t + even, (1 − ε)·t + ε/n of label smoothing with ε = `smoothing`.  For targets
that are classes `t` is None, and the kernel knows the even part alone; who calls it adds what the class
itself has.
"""

import numpy as np
from numba.core import types

from .buffer import buffer, release
from .compiling import inline, per_type
from .exp import ONE, power
from .memory import beginning, lane_type, load, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, row_max, row_sum, table_of, tile_of
from .softmax import KEPT
from .sums import two_difference, two_sum
from .vec import LANES, as_type_of, double, fma, larger, select, splat

TOP, OTHERS, DISTANCE, TOTAL = range(4)  # the rows of `found`: top, R, Σ t'·(top − x), Σt


def unit(array):
    """`exp.ONE` of this type: the power of the top."""
    raise NotImplementedError("compiled only")


@per_type(unit)
def compile_unit(array):
    one = ONE[lane_type(array.dtype)]
    return lambda array: one


def add(total, rest, v):
    """total + rest += v, in float64; where v is float64, without an error."""
    raise NotImplementedError("compiled only")


@per_type(add)
def compile_add(total, rest, v):
    if v.dtype == types.float32:
        return lambda total, rest, v: (total + as_type_of(v, total), rest)

    def without_error(total, rest, v):
        total, lost = two_sum(total, v)
        return total, rest + lost

    return without_error


def put(found, what, i, value, tile):
    """Write what the tile number i tells of its rows: one number, or one for each lane."""
    raise NotImplementedError("compiled only")


@per_type(put)
def compile_put(found, what, i, value, tile):
    if isinstance(tile[2], types.NoneType):

        def number(found, what, i, value, tile):
            found[0][what * found[1] + i] = value

        return number
    return lambda found, what, i, value, tile: store(found[0], what * found[1] + LANES * i, value, LANES)


def if_given(array, value):
    """`value`; None if the array is."""
    raise NotImplementedError("compiled only")


@per_type(if_given)
def compile_if_given(array, value):
    if isinstance(array, types.NoneType):
        return lambda array, value: None
    return lambda array, value: value


def to_ask(x, x_place, out, out_place):
    """What to prefetch: see `places.ask`."""
    raise NotImplementedError("compiled only")


@per_type(to_ask)
def compile_to_ask(x, x_place, out, out_place):
    if isinstance(out, types.NoneType):
        return lambda x, x_place, out, out_place: ((x, x_place),)
    return lambda x, x_place, out, out_place: ((x, x_place), (out, out_place))


@inline
def cross_entropy_tile(x, x_at, t, t_at, out, out_at, tile, numbers, kept, kept_at, keep, found, i, coming):
    count = tile[0]
    share, even, smoothing, rows = numbers
    weighted = t is not None or even != 0.0

    top = splat(-np.inf, zeros(x))
    for k in range(count):
        v = load(x, at(x_at, k), alive(tile, k), -np.inf)
        top = larger(v, top)
        if keep:
            store(kept, kept_at + LANES * k, v, LANES)
    highest = row_max(top, tile)

    tops, zero = zeros(x), double()
    others, others_rest, distance, distance_rest = zero, zero, zero, zero
    t_top, t_top_rest, t_others, t_others_rest = zero, zero, zero, zero
    for k in range(count):
        live = alive(tile, k)
        v = load(kept, kept_at + LANES * k, LANES, 0.0) if keep else load(x, at(x_at, k), live, -np.inf)
        difference, lost = two_difference(v, highest)
        e = power(difference, lost)
        is_top = v == highest
        tops = select(is_top, tops + 1.0, tops)
        others, others_rest = add(others, others_rest, select(is_top, 0.0, e))
        if weighted:
            weight = splat(even, v)
            if t is not None:
                given = load(t, at(t_at, k), live, 0.0)
                t_top, t_top_rest = add(t_top, t_top_rest, select(is_top, given, 0.0))
                t_others, t_others_rest = add(t_others, t_others_rest, select(is_top, 0.0, given))
                weight = fma(given, share, even)
            # 0·inf is 0: a class without a weight may be impossible
            counts = beginning(live) & (weight != 0.0)
            term = as_type_of(weight, zero) * (as_type_of(highest, zero) - as_type_of(v, zero))
            distance, distance_rest = add(distance, distance_rest, select(counts, term, 0.0))
        ask(coming, k)
        if keep:
            store(kept, kept_at + LANES * k, e, LANES)

    one = unit(x)
    number = row_sum(as_type_of(tops, zero), tile)  # of elements that are the top
    others = row_sum(others + others_rest, tile)
    wide_top = as_type_of(highest, zero)
    nought = wide_top - wide_top  # NaN where no number is the largest
    r = (number - 1.0) + others * (1.0 / one) + nought
    of_others = row_sum(t_others + t_others_rest, tile)
    total = row_sum(t_top + t_top_rest, tile) + of_others
    # what an infinite sum has lost is NaN
    distance = select(distance_rest != distance_rest, distance, distance + distance_rest)
    put(found, TOP, i, wide_top, tile)
    put(found, OTHERS, i, r, tile)
    put(found, DISTANCE, i, row_sum(distance, tile), tile)
    put(found, TOTAL, i, total, tile)
    if out is None:
        return

    # p = e/Σe, times the sum of the weights (of a class, 1) and divided by the number of rows, for the mean
    weights = total + 1.0 if t is None else total * share + smoothing
    factor = weights / ((number * one + others + nought) * rows)
    hi = as_type_of(factor, highest)
    lo = as_type_of(factor - as_type_of(hi, factor), highest)
    if t is not None:
        # where the top has most of the row, Σt'·p − t' there is what the others have of the weights, less
        # what they have of Σt'·p
        of_others = of_others * share + (smoothing - even)
        corner = as_type_of((of_others - weights * (r / (1.0 + r))) / rows, highest)
        mark = as_type_of(select(r < 0.5, nought + one, nought - 1.0), highest)
    share, even = share / rows, even / rows
    for k in range(count):
        live = alive(tile, k)
        if keep:
            e = load(kept, kept_at + LANES * k, LANES, 0.0)
        else:
            difference, lost = two_difference(load(x, at(x_at, k), live, -np.inf), highest)
            e = power(difference, lost)
        if t is None:
            dx = fma(e, hi, fma(e, lo, even * -1.0))
        else:
            weight = fma(load(t, at(t_at, k), live, 0.0), share, even)
            dx = select(e == mark, corner, fma(e, hi, fma(e, lo, weight * -1.0)))
        store(out, at(out_at, k), dx, live)


def cross_entropy(
    x,
    t,
    out,
    found,
    grid,
    steps,
    form,
    spread,
    mask_spread,
    across,
    share,
    even,
    smoothing,
    rows,
    start,
    stop,
):
    """The tiles `start` … `stop` − 1 of x (see `places`): their `found`, and ∂L/∂x/rows into out unless it is
    None."""
    x, t, out, found = buffer(x), buffer(t), buffer(out), (buffer(found), found.shape[1])
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    keep = out is not None and form[0] * LANES <= KEPT
    kept = scratch(x, form[0] * LANES if keep else 0)
    for i in range(start, stop):
        out_at = place_of(i, 2, grid, steps, spread, across)
        cross_entropy_tile(
            x,
            place_of(i, 0, grid, steps, spread, across),
            t,
            place_of(i, 1, grid, steps, spread, across),
            out,
            out_at,
            tile_of(i, form, across),
            (share, even, smoothing, rows),
            kept,
            0,
            keep,
            found,
            i,
            to_ask(x, place_of(i + 1, 0, grid, steps, spread, across), out, out_at),
        )
    release(kept)


def cross_entropy_packed(
    x, t, out, found, grid, steps, form, group, share, even, smoothing, rows, start, stop
):
    """The same by way of scratch memory (see `packing`)."""
    # under names of their own: that t and out are not None is known by type of arguments alone
    x, weights, result, found = buffer(x), buffer(t), buffer(out), (buffer(found), found.shape[1])
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = span(form[0])
    at_once = max(group, 1)
    room = scratch(x, size * at_once)
    room_t = scratch(x, 0 if t is None else size * at_once)
    tile = form[0], np.int64(LANES), True
    i = start
    while i < stop:
        tiles = min(at_once, form[2] - i % form[2], stop - i)
        pack(x, 0, i, grid, steps, form, min(group, tiles), room)
        if t is not None:
            pack(weights, 1, i, grid, steps, form, min(group, tiles), room_t)
        for g in range(tiles):
            packed = size * g, LANES
            coming = coming_place(i + at_once + g, 0, grid, steps, group)
            cross_entropy_tile(
                room,
                packed,
                if_given(weights, room_t),
                packed,
                if_given(result, room),
                packed,
                tile,
                (share, even, smoothing, rows),
                room,
                size * g,
                True,
                found,
                i + g,
                to_ask(x, coming, result, coming_place(i + g, 2, grid, steps, group)),
            )
        if out is not None:
            unpack(room, result, 2, i, grid, steps, form, min(group, tiles))
        i += tiles
    release(room)
    release(room_t)
