"""Between the caller's arrays and scratch memory: what has other strides, a mask, or is one of the inputs."""

from .intrinsics import choose, load, plus_product, store, zero


def move(
    source,
    source_rows_step,
    source_step,
    where,
    mask_rows_step,
    mask_step,
    target,
    target_rows_step,
    target_step,
    rows,
    n,
    factor,
    lost,
    fill,
):
    """factor·source for `rows` rows of n elements; `fill` for what is lost or masked."""
    T = type(zero(target))
    factor, lost, fill = T(factor), T(lost), T(fill)
    for r in range(rows):
        at, mask_at, to = r * source_rows_step, r * mask_rows_step, r * target_rows_step
        whole = mask_step == 0 and load(where, mask_at) != 0
        neighbours = source_step == 1 and target_step == 1
        if whole and neighbours:
            for i in range(n):
                v = load(source, at + i)
                store(target, to + i, choose(v == lost, fill, v * factor))
        elif whole and factor == 1:
            for i in range(n):
                store(target, to + i * target_step, load(source, at + i * source_step))
        elif neighbours and mask_step == 1:
            for i in range(n):
                v = load(source, at + i)
                store(target, to + i, choose((v == lost) | (load(where, mask_at + i) == 0), fill, v * factor))
        else:
            for i in range(n):
                v = load(source, at + i * source_step)
                absent = (v == lost) | (load(where, mask_at + i * mask_step) == 0)
                store(target, to + i * target_step, choose(absent, fill, v * factor))


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
