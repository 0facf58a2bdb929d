"""Whether a row has nothing in it: every element −inf, or masked."""

import numpy as np

from .memory import scratch, store, zeros
from .places import place_of, tile_of
from .softmax import logits
from .vec import LANES, any_of, select


def any_empty(x, where, grid, steps, form, spread, mask_spread, across, sign, start, stop):
    """Whether a row among the tiles `start` … `stop` − 1 of x is empty (see `places`)."""
    found = scratch(x, LANES)
    for i in range(start, stop):
        tile = tile_of(i, form, across)
        x_at = place_of(i, 0, grid, steps, spread, across)
        where_at = place_of(i, 1, grid, steps, mask_spread, across)
        something = zeros(x)
        for k in range(tile[0]):
            v = logits(x, x_at, where, where_at, tile, k, sign)
            something = select(v != -np.inf, 1.0, something)
        if across is None:
            if not any_of(something != 0.0):
                return True
        else:
            store(found, 0, something, LANES)
            if found[: tile[1]].min() == 0.0:
                return True
    return False
