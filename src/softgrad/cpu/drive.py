"""From tile to tile: what is not contiguous goes through scratch memory, the kernel does the rest.

A *tile* is some neighbouring rows, or some neighbouring columns, of all arrays of a call.  The plan of a
call, an array of int64, says where they lie; `plan.py` writes it, with the names below.
"""

import numpy as np
from numba import int64, njit

from .intrinsics import call, pointer_to

MOST = 4  # arrays that a kernel takes
NARROW, SMALL = 8, 256  # fewer neighbouring columns than this, of more elements in all, are done as rows
BUDGET = 7 << 17  # bytes of columns in scratch memory; with what a kernel has for itself less than a megabyte
KILOBYTE, LINE = 1024, 64  # bytes
TABLES = 32  # float64s that hold what is known of a tile

# what stands where in the numbers of a call; of FILL one for each array
SCALE, LOW, NOTHING, FACTOR, LOST, FILL = range(6)
MORE = FILL + MOST  # what else a kernel takes
ALPHA = MORE  # of entmax
# of rows in segments, as integers: the address of the offsets, how many segments, the address of the kernel
# of whole rows; how many columns there are if they are 8, 16 or 24 and lie without a gap, else 0; the number
# of the first segment, and how far apart the numbers of two segments lie where each has one
CUTS, SEGMENTS, WHOLE, COLUMNS_PACKED, FIRST, NEXT = range(MORE, MORE + 6)

# what stands where in a plan
(
    KERNEL,  # the address of the kernel
    PART,  # that of the kernel for one of the segments that a row is cut into; 0: it is not cut
    READ,  # how many arrays it reads; they come first
    ARRAYS,
    COLUMNS,  # whether tiles are columns
    N,  # how many elements are reduced
    RUN,  # how many of them lie a step apart
    PER_TILE,  # rows, or columns, at most
    ALONG,  # rows, or columns, of the innermost kept axis
    ROOM,  # bytes of scratch memory for the kernel
    SCRATCH,  # bytes of scratch memory for a tile of an array
    ITEM,  # bytes of an element there
    KEPT,  # axes that are kept
    REDUCED,  # axes that are reduced, beside the run
    AGREE,  # the function that tells whether a mask makes no difference; 0: it is not asked
    MOVE,  # for each array the function that moves it; 0: the kernel works on it as it is
) = range(16)
SIZES = MOVE + MOST  # of the kept axes, then of the reduced ones
# then for each array, and the mask, its steps in elements along these axes and along the run, and the bytes
# of an element


def drive(given, memory, start, stop):
    """Do the tiles `start` … `stop` − 1.

    `given` are the addresses of the plan, of the numbers, of up to four arrays and of the mask; `memory` is
    scratch.

    `numbers` are for the kernel; from 3 on they are what `gather.move` takes: a factor of the last array that
    is read, what counts as absent, and what stands in for it in each array.
    """
    given = pointer_to(given, int64(0))
    plan, numbers, where = pointer_to(given[0], int64(0)), given[1], given[2 + MOST]
    values = pointer_to(numbers, 0.0)
    kept, reduced, columns, per_tile = plan[KEPT], plan[REDUCED], plan[COLUMNS], plan[PER_TILE]
    arrays, n = plan[ARRAYS], plan[N]
    steps, fields = SIZES + kept + reduced, kept + reduced + 2
    table, room = memory, memory + 8 * TABLES
    at, here = pointer_to(table, int64(0)), pointer_to(table + 64, int64(0))  # of each array
    step, answer = pointer_to(table + 128, int64(0)), pointer_to(table + 192, int64(0))
    for i in range(MOST):
        here[i] = step[i] = 0
    tile = start
    while tile < stop:
        for i in range(MOST):
            at[i] = given[2 + i]
        at[MOST] = where
        rest, inner = tile, int64(0)
        for k in range(kept - 1, -1, -1):
            index = rest % plan[SIZES + k]
            rest //= plan[SIZES + k]
            if k == kept - 1:
                inner = index * (per_tile if columns else 1)
                index = inner
            for i in range(MOST + 1):
                of_array = steps + i * fields
                at[i] += index * plan[of_array + k] * plan[of_array + fields - 1]
        count = min(per_tile, plan[ALONG] - inner)
        count = count if columns else min(count, stop - tile)
        answer[0], again = 0, True
        if plan[AGREE] != 0:
            call(
                *(plan[AGREE], at[0], plan[steps + kept - 1], at[0], plan[steps + kept - 1]),
                *(at[MOST], plan[steps + MOST * fields + kept - 1], plan[steps + MOST * fields + fields - 2]),
                *(count, n, table + 192),
            )
        while again:
            again, scratch = False, room + plan[ROOM]
            for i in range(arrays):
                of_array = steps + i * fields
                if plan[MOVE + i] == 0 or answer[0] != 0:
                    here[i] = at[i]
                    step[i] = plan[of_array + (fields - 2 if columns else kept - 1)]
                else:
                    here[i] = scratch
                    step[i] = count if columns else apart(n, plan[ITEM])
                    scratch += plan[SCRATCH]
                    if i < plan[READ]:
                        move(plan, values, at, here[i], i, count)
            call(
                plan[KERNEL],
                *(here[0], here[1], here[2], here[3]),
                *(step[0], step[1], step[2], step[3]),
                *(n, count, numbers, room),
            )
            if answer[0] != 0:  # a masked dy that is not finite has spoilt its row
                call(
                    *(plan[AGREE], at[0], step[0], at[2], step[2]),
                    *(at[MOST], plan[steps + MOST * fields + kept - 1], int64(1)),
                    *(count, int64(1), table + 192),
                )
                again = answer[0] == 0
        for i in range(plan[READ], arrays):
            if plan[MOVE + i] != 0 and answer[0] == 0:
                move(plan, values, at, here[i], i, count)
        tile += 1 if columns else count


@njit(nogil=True, error_model="numpy")
def apart(n, item):
    """From row to row in scratch memory: not whole kilobytes, which share few places of the caches."""
    return n + LINE // item if n * item % KILOBYTE == 0 else n


@njit(nogil=True, error_model="numpy")
def move(plan, values, at, scratch, i, count):
    """Array i of a tile to scratch memory or, if it is written, from there, a run after the other."""
    kept, reduced, n, run = plan[KEPT], plan[REDUCED], plan[N], plan[RUN]
    steps, fields = SIZES + kept + reduced, kept + reduced + 2
    of_array, of_mask = steps + i * fields, steps + MOST * fields
    # from row to row, and from element to element; there the elements of a row, or column, are neighbours
    rows, elements, rows_step, step = count, run, plan[of_array + kept - 1], plan[of_array + fields - 2]
    mask_rows_step, mask_step = plan[of_mask + kept - 1], plan[of_mask + fields - 2]
    there_rows_step, there_step = int64(1), count
    if plan[COLUMNS] == 0:
        there_rows_step, there_step = apart(n, plan[ITEM]), int64(1)
    if abs(step) > abs(rows_step) and rows > 1:  # neighbours in the caller's memory one after the other
        rows, elements, rows_step, step = elements, rows, step, rows_step
        mask_rows_step, mask_step = mask_step, mask_rows_step
        there_rows_step, there_step = there_step, there_rows_step
    for j in range(n // run):
        rest, here, mask = j, at[i], at[MOST]
        for k in range(kept + reduced - 1, kept - 1, -1):
            index = rest % plan[SIZES + k]
            rest //= plan[SIZES + k]
            here += index * plan[of_array + k] * plan[of_array + fields - 1]
            mask += index * plan[of_mask + k]
        there = scratch + j * run * plan[ITEM]
        if i < plan[READ]:
            factor = values[FACTOR] if i == plan[READ] - 1 else 1.0
            call(
                *(plan[MOVE + i], here, rows_step, step, mask, mask_rows_step, mask_step),
                *(there, there_rows_step, there_step, rows, elements, factor, values[LOST], values[FILL + i]),
            )
        else:
            call(
                *(plan[MOVE + i], there, there_rows_step, there_step, mask, mask_rows_step, mask_step),
                *(here, rows_step, step, rows, elements, 1.0, np.nan, values[FILL + i]),
            )
