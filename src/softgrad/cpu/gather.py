"""Between the caller's arrays and scratch memory: what has other strides, a mask, or is one of the inputs."""

from .intrinsics import choose, load, plus_product, store, zero


def move(
    source, row, step, mask, mask_row, mask_step, target, target_row, target_step, rows, n, factor, lost, fill
):
    """factor·source for `rows` rows of n elements; `fill` for what is lost or masked.

    From row to row, and from element to element, it is so many elements of each array.
    """
    T = type(zero(target))
    factor, lost, fill = T(factor), T(lost), T(fill)
    for r in range(rows):
        at, mask_at, to = r * row, r * mask_row, r * target_row
        whole = mask_step == 0 and load(mask, mask_at) != 0
        neighbours = step == 1 and target_step == 1
        if whole and neighbours:
            for i in range(n):
                v = load(source, at + i)
                store(target, to + i, choose(v == lost, fill, v * factor))
        elif whole and factor == 1:
            for i in range(n):
                store(target, to + i * target_step, load(source, at + i * step))
        elif neighbours and mask_step == 1:
            for i in range(n):
                v = load(source, at + i)
                store(target, to + i, choose((v == lost) | (load(mask, mask_at + i) == 0), fill, v * factor))
        else:
            for i in range(n):
                v = load(source, at + i * step)
                absent = (v == lost) | (load(mask, mask_at + i * mask_step) == 0)
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
