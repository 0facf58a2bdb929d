"""Between the caller's arrays and scratch memory: what has other strides, a mask, or is one of the inputs."""

from numba import int64

from .intrinsics import choose, load, plus_product, store, zero


def gather(
    source,
    rows_step,
    step,
    where,
    mask_rows_step,
    mask_step,
    target,
    target_step,
    rows,
    n,
    factor,
    lost,
    fill,
):
    """`rows` rows of n elements into contiguous memory: factor·source; `fill` for what is lost or masked."""
    T = type(zero(target))
    factor, lost, fill = T(factor), T(lost), T(fill)
    target_one = int64(1)
    if abs(step) > abs(rows_step) and rows > 1:  # neighbours in memory one after the other
        rows, n = n, rows
        rows_step, step = step, rows_step
        mask_rows_step, mask_step = mask_step, mask_rows_step
        target_step, target_one = target_one, target_step
    for r in range(rows):
        at, mask_at, to = r * rows_step, r * mask_rows_step, r * target_step
        if step == 1 and mask_step == 1 and target_one == 1 and factor == 1:
            for i in range(n):
                store(target, to + i, choose(load(where, mask_at + i) == 0, fill, load(source, at + i)))
        elif step == 1 and mask_step == 1 and target_one == 1:
            for i in range(n):
                v = load(source, at + i)
                store(target, to + i, choose((v == lost) | (load(where, mask_at + i) == 0), fill, v * factor))
        elif step == 1 and mask_step == 0 and target_one == 1 and load(where, mask_at) != 0:
            for i in range(n):
                v = load(source, at + i)
                store(target, to + i, choose(v == lost, fill, v * factor))
        elif mask_step == 0 and load(where, mask_at) != 0 and factor == 1:
            for i in range(n):
                store(target, to + i * target_one, load(source, at + i * step))
        else:
            for i in range(n):
                v = load(source, at + i * step)
                absent = (v == lost) | (load(where, mask_at + i * mask_step) == 0)
                store(target, to + i * target_one, choose(absent, fill, v * factor))


def scatter(source, source_step, target, rows_step, step, where, mask_rows_step, mask_step, rows, n, fill):
    """`rows` rows of n elements from contiguous memory: `fill` where the mask is 0."""
    T = type(zero(target))
    fill = T(fill)
    source_one = int64(1)
    n = n if step != 0 else min(n, 1)  # one number for all
    if abs(step) > abs(rows_step) and rows > 1:
        rows, n = n, rows
        rows_step, step = step, rows_step
        mask_rows_step, mask_step = mask_step, mask_rows_step
        source_step, source_one = source_one, source_step
    for r in range(rows):
        at, mask_at, to = r * source_step, r * mask_rows_step, r * rows_step
        if step == 1 and mask_step == 1 and source_one == 1:
            for i in range(n):
                store(target, to + i, choose(load(where, mask_at + i) == 0, fill, load(source, at + i)))
        elif step == 1 and mask_step == 0 and source_one == 1 and load(where, mask_at) != 0:
            for i in range(n):
                store(target, to + i, load(source, at + i))
        elif mask_step == 0 and load(where, mask_at) != 0:
            for i in range(n):
                store(target, to + i * step, load(source, at + i * source_one))
        else:
            for i in range(n):
                absent = load(where, mask_at + i * mask_step) == 0
                store(target, to + i * step, choose(absent, fill, load(source, at + i * source_one)))


def agree(y, y_step, v, v_step, where, mask_rows_step, mask_step, rows, n, answer):
    """Whether y is 0 where the mask is, and v finite.

    Of y and y: then a mask makes no difference to a product, unless a dy is not finite.  Of the first numbers
    of the rows of y and dx: whether one was.
    """
    T = type(zero(y))
    weight, spoilt = zero(y), zero(y)
    for r in range(rows):
        at_y, at_v, mask_at = r * y_step, r * v_step, r * mask_rows_step
        for i in range(n):
            masked = choose(load(where, mask_at + i * mask_step) == 0, T(1), T(0))
            weight = plus_product(weight, abs(load(y, at_y + i)), masked)
            spoilt = plus_product(spoilt, load(v, at_v + i), T(0))
    answer[0] = 1 if weight + spoilt == 0 else 0
