"""Arguments of a call: checks, and the form that operations take."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..checks import Array

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def array(tensor: Tensor) -> Array:
    """The array of the same memory; bfloat16 is another view of its bits."""
    if tensor.dtype is torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy(force=True)
        return bits.view(ml_dtypes.bfloat16)
    return tensor.numpy(force=True)


def as_tensor(value: Any) -> Tensor:
    """The tensor of the same memory as an array's, or of a NumPy scalar."""
    value = np.asarray(value)
    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def wide(tensor: Tensor) -> Tensor:
    """In the dtype that formulas are computed in: 16-bit types in float32."""
    return tensor.float() if tensor.dtype.itemsize == 2 else tensor


def is_dtensor(value: Any) -> bool:
    """Whether it is a DTensor; who has none has not loaded their module."""
    if type(value) is Tensor:
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def for_dtensors() -> Any:
    """The module that knows them, loaded with the first of them; operators take them from then on."""
    from . import dtensors

    dtensors.register()
    return dtensors


# --- what a call may be given ------------------------------------------------------------------------


def check_tensor(value: Any, name: str) -> Tensor:
    """A tensor of real numbers; integers become float64."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} is a {type(value).__module__}.{type(value).__name__}; with torch tensors it takes a "
            f"tensor: give torch.as_tensor({name})"
        )
    if is_dtensor(value):
        for_dtensors()
    if value.layout is not torch.strided:
        raise TypeError(
            f"{name} has the layout {value.layout}; it takes strided ones: give {name}.to_dense()"
        )
    if value.dtype in FLOATS:
        return value
    if value.dtype in INTEGERS:
        return value.double()
    advice = {torch.bool: f"{name}.float() if 0 and 1 are meant, or where= for a mask"}
    advice[torch.complex64] = advice[torch.complex128] = f"{name}.real or {name}.abs(), whichever is meant"
    raise TypeError(
        f"{name} has dtype {value.dtype}; {checks.TAKEN}: give {advice.get(value.dtype, f'{name}.float()')}"
    )


def convert(input: Any, dtype: torch.dtype | None, as_loss: bool = False) -> Any:
    """`input` in `dtype`; without that, in what autocast computes: float32, on the CPU for losses only."""
    if not isinstance(input, Tensor):
        return input  # refused with the other arguments
    if dtype is not None:
        return input.to(dtype)
    if input.dtype.itemsize == 2 and (as_loss or not input.is_cpu) and is_autocast(input.device.type):
        return input.float()
    return input


def is_autocast(device: str) -> bool:
    """Whether it is on; PyTorch refuses to say so of devices without it, such as "meta"."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def promote(names: tuple[str, ...], *values: Any) -> list[Tensor]:
    """The tensors, of one shape, in one dtype: the one PyTorch promotes theirs to."""
    tensors = [check_tensor(value, name) for value, name in zip(values, names, strict=True)]
    first = tensors[0]
    dtype = first.dtype
    for tensor, name in zip(tensors, names, strict=True):
        if tensor.shape != first.shape:
            raise ValueError(
                f"{names[0]} has shape {tuple(first.shape)} and {name} has shape {tuple(tensor.shape)}; they "
                f"must be the same, since softgrad does not broadcast: use {name}.expand where that is meant"
            )
        check_same_device(tensors[0], names[0], tensor, name)
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor if tensor.dtype is dtype else tensor.to(dtype) for tensor in tensors]


def check_same_device(first: Tensor, name: str, other: Tensor, name_of_other: str) -> None:
    """Raise for tensors on two devices."""
    if not (first.is_cpu and other.is_cpu) and first.device != other.device:
        raise RuntimeError(
            f"{name} is on {first.device} and {name_of_other} on {other.device}; they must be on one device: "
            f"bring {name_of_other} there"
        )


def dims_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """The dims to reduce, counted from the last (−1), so that they stay what they are if one is put before.

    A 0-d tensor counts as one number along −1.
    """
    n = ndim or 1
    if type(dim) is int and -n <= dim < n:  # the common case, which torch.compile can trace
        return (dim - n if dim >= 0 else dim,)
    if dim is None:
        return tuple(range(-n, 0))
    if type(dim) is tuple and ndim and all(type(d) is int and -n <= d < n for d in dim):
        found = tuple([d - n if d >= 0 else d for d in dim])
        if len(set(found)) == len(found):
            return found
    return tuple([axis - n for axis in in_words_of_torch(checks.axes, dim, ndim)])


def one_dim(dim: Any, ndim: int, what: str) -> int:
    """The one dim along which `what` lie, counted from the last."""
    n = ndim or 1
    if type(dim) is not int or not -n <= dim < n:  # what torch.compile can trace goes on
        dim = in_words_of_torch(checks.one_axis, dim, ndim, what)
    return dim - n if dim >= 0 else dim


def in_words_of_torch(check: Any, *arguments: Any) -> Any:
    """A check for arrays, of which an error speaks of tensors and dims."""
    try:
        return check(*arguments)
    except (TypeError, ValueError, IndexError) as error:
        text = str(error).removeprefix("axis: ")  # of NumPy's
        for word, other in (("an array", "a tensor"), ("an axis", "a dim")):
            text = text.replace(word, other)
        for word, other in (("array", "tensor"), ("axis", "dim"), ("axes", "dims")):
            text = text.replace(word, other)
        raise type(error)(text) from None


def scale_of(scale: Any, x: Tensor) -> float:
    if type(scale) in (float, int) and -checks.LARGEST_32 <= scale <= checks.LARGEST_32:
        return float(scale)
    if isinstance(scale, list | np.ndarray) and np.ndim(scale):
        raise TypeError(f"scale is a {type(scale).__name__}; with tensors give torch.as_tensor(scale)")
    return checks.number(scale, numpy_dtype(x.dtype))


def multiply(x: Tensor, scale: Tensor, where: Tensor | None) -> Tensor:
    """scale·x; 16-bit types in float32: a rounded product would be off by much.

    What is masked, or −inf, is 0 in the product, so that it is nothing in the gradient of the scale (where
    0·NaN would be NaN), and put back behind it.
    """
    scale = check_tensor(scale, "scale")
    try:
        factor = scale.expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"scale has shape {tuple(scale.shape)}, which does not broadcast to that of x, {tuple(x.shape)}"
        ) from None
    dtype = torch.promote_types(x.dtype, torch.float32)
    absent = x == -torch.inf
    nothing = absent if where is None else absent | ~where
    z = x.to(dtype).masked_fill(nothing, 0.0) * factor.to(dtype)
    return z.masked_fill(absent, -torch.inf).masked_fill(absent & (factor < 0), torch.inf)


def sum_keepdims(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The sum along the dims, which stay with length 1; along none of them each number is its own."""
    return tensor.sum(dims, keepdim=True) if dims else tensor  # PyTorch takes () for all


def mask(where: Any, like: Tensor) -> Tensor | None:
    """`where` as a boolean tensor of the shape of `like` (a view); None if everything is there."""
    if where is None or where is True:
        return None
    if not isinstance(where, Tensor):
        raise TypeError(f"where takes a tensor of booleans, not {type(where).__name__}")
    if where.dtype is not torch.bool:
        raise TypeError(
            f"where has dtype {where.dtype}; it takes booleans, True for what is there: give where != 0, "
            f"or where == 0 if yours marks what is not"
        )
    check_same_device(like, "the tensor", where, "where")
    if where.shape == like.shape:
        return where
    try:
        return where.expand(like.shape)
    except RuntimeError:
        raise ValueError(
            f"where has shape {tuple(where.shape)}, which does not broadcast to that of the tensor, "
            f"{tuple(like.shape)}"
        ) from None


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if dtype is torch.bfloat16 else str(dtype).removeprefix("torch."))


def into(out: Any, result: Tensor, *inputs: Any) -> Tensor:
    """The result, in `out` if that was given and can be written to."""
    return result if out is None else check_out(out, result, *inputs).copy_(result)


def check_out(out: Any, like: Tensor, *inputs: Any) -> Tensor:
    """`out`, if it can be written to; what autograd must follow it can't be."""
    if not isinstance(out, Tensor):
        raise TypeError(f"out takes a torch.Tensor, not {type(out).__name__}")
    if out.dtype is not like.dtype:
        raise TypeError(f"out has dtype {out.dtype}; the result has {like.dtype}: give a tensor of that")
    if out.shape != like.shape:
        raise ValueError(
            f"out has shape {tuple(out.shape)}; the result has {tuple(like.shape)}: give a tensor of that"
        )
    check_same_device(like, "the result", out, "out")
    if torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in (out, *inputs)):
        raise RuntimeError(
            "out= is not followed by autograd, and a tensor here requires grad: leave out= away, or call "
            "under torch.no_grad()"
        )
    return out
