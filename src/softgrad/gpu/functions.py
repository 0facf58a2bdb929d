"""The functions: a map, its products with the Jacobian and its double backward, for any axis.

`forward`, `product` and `double_backward` take the name of a map and its alpha, as a row of
`softgrad.specs.MAPS` has them (an alpha of None is 1): these are what `softgrad.torch` calls.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from . import long, rows, sparse
from .launch import Walk, on

Axis = int | tuple[int, ...] | None


@functools.lru_cache(maxsize=256)
def in_parts(scale: float, double: bool) -> tuple[float, float, float]:
    """A scale in the three numbers that the kernels take: (factor, low part, power of two), with its product.

    Factor and low part are numbers of the type that the kernels compute in, float64 if `double`, or else
    float32; from 1 to 2 in sum, so that the low part is no subnormal number.
    """
    fraction, exponent = math.frexp(scale)
    fraction, power = 2 * fraction, 2.0 ** (exponent - 1)
    if double or scale == 0:
        return fraction, 0.0, power
    factor = float(np.float32(fraction))
    if power < 2.0**-149:  # beyond the smallest float32; the differences are below 2¹²⁸
        return factor, fraction - factor, 2.0**-149
    return factor, float(np.float32(fraction - factor)), power


def last(tensor: Tensor, axis: Axis) -> Tensor:
    """The axes last, as one: a view where there is one."""
    if tensor.ndim and (axis == -1 or axis == (-1,)):
        return tensor
    axes = tuple(range(tensor.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    if tensor.ndim == 0:
        return tensor.reshape(1)
    if not axes:
        return tensor.unsqueeze(-1)
    return tensor.movedim(axes, tuple(range(-len(axes), 0))).flatten(-len(axes))


def into(out: Tensor, axis: Axis) -> tuple[Tensor, bool]:
    """The same of what is written, and whether that is another memory than `out`."""
    rows = last(out, axis)
    return rows, rows.numel() > 0 and rows.data_ptr() != out.data_ptr()


def back(rows: Tensor, out: Tensor, axis: Axis) -> None:
    """Copy rows into `out`."""
    axes = tuple(range(out.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    shape = [out.shape[a] for a in axes]
    out.copy_(rows.unflatten(-1, shape).movedim(tuple(range(-len(axes), 0)), axes))


def along(
    axis: Axis, run: Callable[..., None], read: list[Tensor], where: Tensor | None, written: list[Tensor]
) -> None:
    """Call `run(read, mask, written)` on these with the axis last."""
    if read[0].numel() == 0:
        return
    given = [last(t, axis) for t in read]
    mask = None if where is None else last(where.expand(read[0].shape), axis)
    targets = [into(out, axis) for out in written]
    with on(read[0]):
        run(given, mask, [t for t, _ in targets])
    for out, (target, copied) in zip(written, targets, strict=True):
        if copied:
            back(target, out, axis)


def forward(
    map: str,
    x: Tensor,
    *,
    axis: Axis = -1,
    where: Tensor | None = None,
    scale: float = 1.0,
    empty: str = "zero",
    out: Tensor | None = None,
    alpha: float | None = None,
) -> Tensor:
    r"""A map of ``scale * x`` along axes: of softmax exp(scale·x)/Σ exp(scale·x).

    Parameters
    ----------
    map : {"softmax", "log_softmax", "sparsemax", "entmax"}
    x : Tensor
        Logits of any shape and strides, float16, bfloat16, float32 or float64, on a CUDA device.
    axis : int, tuple of int or None
        The dims along which the result sums to 1; None is all of them.
    where : Tensor of bool, optional
        Broadcasts to the shape of `x`.  What is False is not there, whatever `x` holds.
    scale : float
        A finite number.
    empty : {"zero", "nan", "raise"}
        What a row gives that has nothing in it.  "raise" waits for the device.
    out : Tensor, optional
        Of the shape and dtype of `x`, with any strides under which no two elements share memory; it may be
        `x` itself, and must not overlap it otherwise.
    alpha : float, optional
        Of entmax: above 1.

    Returns
    -------
    Tensor
        y, with the dtype, the device and the shape of `x`; `out` if that was given.

    Raises
    ------
    ValueError
        ``empty="raise"`` and there is an empty row.

    Notes
    -----
    Autograd does not follow this: `softgrad.torch` is for that.

    *Error*: as the functions of `softgrad`: of softmax at most 2 ulp for float32 and float64 where y is a
    normal number, 0.51 ulp for the 16-bit types; in any run the same bits.  *Memory*: the result, and three
    numbers for each part of a line that is not held; of dims that can't be walked as two, or axes that can't
    as one, a copy; of ``empty="raise"`` two masks.

    Examples
    --------
    On a GPU::

        y = softgrad.gpu.softmax(x)
        dx = softgrad.gpu.softmax_vjp(y, dy, out=dy)
    """
    out = torch.empty_like(x) if out is None else out
    sign, number = -1.0 if scale < 0 else 1.0, 1.0 if alpha is None else float(alpha)
    log, double = map == "log_softmax", x.dtype is torch.float64
    fill = math.nan if empty == "nan" else 0.0
    numbers = sign, *in_parts(abs(scale), double), fill

    def run(read: list[Tensor], mask: Tensor | None, written: list[Tensor]) -> None:
        if empty == "raise":
            check_rows(read[0], mask, sign)
        if map in ("sparsemax", "entmax"):
            way = "steep" if number > 2 else name_of(map, number)
            walk = Walk(read, written, mask, sparse.weight_of(way, double))
            walk.run(sparse.entmax, None, *numbers, number, MAP=way, HELD=walk.held)
        else:
            scaled = scale not in (1.0, -1.0)
            walk = Walk(read, written, mask, 1 if log or scaled or double else 0.5)
            given = {"LOG": log, "SCALED": scaled, "NARROW": x.element_size() == 2}
            walk.run(rows.softmax, long.softmax, *numbers, **given)

    along(axis, run, [x], where, [out])
    return out


def check_rows(x: Tensor, where: Tensor | None, sign: float) -> None:
    """Raise for a row with nothing in it."""
    nothing = x == -math.inf * sign
    if where is not None:
        nothing = nothing | ~where
    if nothing.all(-1).any():
        raise ValueError(
            "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' or "
            "empty='nan', or leave such rows out"
        )


def name_of(map: str, alpha: float | None) -> str:
    """The MAP of the kernels (see rows.py)."""
    return "entmax15" if map == "entmax" and alpha == 1.5 else map


def halves(scale: float) -> tuple[float, float]:
    """a·b = scale, both within float32's range; b is 1 for a scale of any usual size."""
    fraction, exponent = math.frexp(scale)
    b = max(-126, min(126, exponent - 60 if exponent > 60 else min(exponent + 60, 0)))
    return math.ldexp(fraction, exponent - b), 2.0**b


def product(
    map: str,
    kind: str,
    y: Tensor,
    v: Tensor,
    *,
    axis: Axis = -1,
    where: Tensor | None = None,
    scale: float = 1.0,
    out: Tensor | None = None,
    alpha: float | None = None,
) -> Tensor:
    r"""The product with the Jacobian of a map: s∘(v − ⟨s,v⟩/⟨s,1⟩)·scale, with the weights s(y).

    Of softmax s is y.  Of log_softmax the vjp is (v − exp(y)·Σv)·scale, and the jvp
    (v − ⟨exp(y),v⟩/⟨exp(y),1⟩)·scale.

    Parameters
    ----------
    map, axis, where, scale, alpha
        As for `forward`, of which y is the result.
    kind : {"vjp", "jvp"}
        For all maps but log_softmax the same.
    y, v : Tensor
        Of one shape, dtype and device, with any strides; v is dy, or dx for the jvp.
    out : Tensor, optional
        As for `forward`; it may be `y` or `v` itself.

    Returns
    -------
    Tensor
        dx, or dy for the jvp; `out` if that was given.

    Notes ----- *Error*: as the functions of `softgrad`: C·eps·(\|dx\| + s·⟨s,\|v − mean\|⟩/⟨s,1⟩) of each
    element, C = 8 for float32 and 16 for float64, 16-bit types being computed in float32; in any run the same
    bits.  *Memory*: as for `forward`.
    """
    out = torch.empty_like(y) if out is None else out
    way = "log_vjp" if map == "log_softmax" and kind == "vjp" else name_of(map, alpha)
    multiply(way, [y, v], where, out, axis, alpha, scale, map != "log_softmax")
    return out


def multiply(
    way: str,
    read: list[Tensor],
    where: Tensor | None,
    out: Tensor,
    axis: Axis,
    alpha: float | None,
    scale: float,
    weighted: bool,
) -> None:
    """The product by the kernels of MAP `way`, into `out`; if not `weighted`, v − ⟨s,v⟩/⟨s,1⟩ without s."""
    numbers = 1.0 if alpha is None else float(alpha), *halves(scale)

    def run(read: list[Tensor], mask: Tensor | None, written: list[Tensor]) -> None:
        walk = Walk(read, written, mask)
        walk.run(rows.product, long.product, *numbers, MAP=way, WEIGHTED=weighted)

    along(axis, run, read, where, [out])


def double_backward(
    map: str,
    y: Tensor,
    dy: Tensor,
    v: Tensor,
    *,
    axis: Axis = -1,
    scale: float = 1.0,
    alpha: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The derivative of ⟨v, vjp(y, dy)⟩ by x and by dy (formulas: ``double_backward.py``).

    Parameters
    ----------
    map, axis, scale, alpha
        As for `forward`, of which y is the result.
    y, dy, v : Tensor
        Of one shape, dtype and device, with any strides.

    Returns
    -------
    grad_x, grad_dy : Tensor
        New, of the shape of `y`.

    Notes
    -----
    *Error*: as `softgrad.softmax_double_backward` and those of the other maps.  *Memory*: the results, and as
    for `forward`; where lines are not held six arrays of their size.
    """
    out = torch.empty_like(y), torch.empty_like(y)
    numbers = 1.0 if alpha is None else float(alpha), *halves(scale)

    def run(read: list[Tensor], _: Tensor | None, written: list[Tensor]) -> None:
        walk = Walk(read, written, None, 2)
        if walk.held:
            walk.run(rows.double_backward, None, *numbers, MAP=name_of(map, alpha))
        else:
            grads = by_products(map, read[0], read[1], read[2], scale, alpha)
            for target, grad in zip(written, grads, strict=True):
                target.copy_(grad)

    along(axis, run, [y, dy, v], None, list(out))
    return out


def by_products(
    map: str, y: Tensor, dy: Tensor, v: Tensor, scale: float, alpha: float | None
) -> tuple[Tensor, Tensor]:
    """The double backward of lines that are not held, in float32 or float64."""
    y, dy, v = (t.float() if t.element_size() == 2 else t for t in (y, dy, v))
    grad_dy = product(map, "jvp", y, v, scale=scale, alpha=alpha)
    if map == "log_softmax":
        total = torch.where(y == -math.inf, dy * 0, dy).sum(-1, keepdim=True)
        root = (y / 2).exp()  # of exp(y), which may be no number
        return -(grad_dy * (total * scale)) * root * root, grad_dy
    if map == "sparsemax":
        return torch.zeros_like(y), grad_dy
    p, u = torch.empty_like(dy), torch.empty_like(v)
    multiply(name_of(map, alpha), [y, dy], None, p, -1, alpha, 1.0, False)
    multiply(name_of(map, alpha), [y, v], None, u, -1, alpha, 1.0, False)
    p *= u
    if map == "entmax":  # the derivative of the weights
        assert alpha is not None
        p *= torch.where(y > 0, (2 - alpha) * y ** (1 - alpha), 0)
    return product(map, "vjp", y, p, scale=scale * scale, alpha=alpha), grad_dy
