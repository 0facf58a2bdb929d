"""Whether a row has nothing in it: every element −inf, or masked."""

import numpy as np

from .buffer import buffer, release
from .memory import scratch, store, zeros
from .places import place_of, table_of, tile_of
from .softmax import logits
from .vec import LANES, any_of, select


def any_empty(x, where, grid, steps, form, spread, mask_spread, across, sign, start, stop):
    """Whether a row among the tiles `start` … `stop` − 1 of x is empty (see `places`)."""
    x, where = buffer(x), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    held = scratch(x, LANES)
    empty = False
    for i in range(start, stop):
        tile = tile_of(i, form, across)
        x_at = place_of(i, 0, grid, steps, spread, across)
        where_at = place_of(i, 1, grid, steps, mask_spread, across)
        something = zeros(x)
        for k in range(tile[0]):
            v = logits(x, x_at, where, where_at, tile, k, sign)
            something = select(v != -np.inf, 1.0, something)
        if across is None:
            empty = empty or not any_of(something != 0.0)
        else:
            store(held, 0, something, LANES)
            for lane in range(min(tile[1], LANES)):
                empty = empty or held[lane] == 0.0
    release(held)
    return empty
