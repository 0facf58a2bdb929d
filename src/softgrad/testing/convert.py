"""The arrays of PyTorch and JAX: a function on them as one on NumPy's."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np

from ..checks import Array
from .verdicts import Function


class Unusable(ValueError):
    """There is nothing to verify; the text says what was asked for, and what there is."""


def on_numpy(function: Function, arrays: str, device: str) -> Function:
    """The function, called with arrays of its own library, for and with NumPy's."""
    to, back = LIBRARIES[arrays](device)

    def fn(*args: Array, **options: Any) -> Any:
        own = [to(array) for array in args]
        result = function(*own, **options)
        if arrays == "torch":
            for array, copy in zip(args, own, strict=True):
                repeat_changes(array, back(copy))
        return tuple(map(back, result)) if isinstance(result, tuple | list) else back(result)

    return fn


def repeat_changes(array: Array, copy: Array) -> None:
    """Change an input as its copy was changed: the checks look for it there."""
    if np.may_share_memory(copy, array) or copy.tobytes() == array.tobytes():
        return
    if not array.flags.writeable:
        raise ValueError("the function wrote to an input")
    array[...] = copy


def array_type(library: str) -> Any:
    name = {"numpy": "ndarray", "torch": "Tensor", "jax": "Array"}[library]
    return getattr(importlib.import_module(library), name)


# --- each library: to its arrays, and back -------------------------------------------------------------


def by_numpy(device: str) -> tuple[Function, Function]:
    if device != "cpu":
        raise Unusable(f"--device {device}: the function takes NumPy arrays, which are on the cpu")
    return (lambda array: array), (lambda result: result)


def by_torch(device: str) -> tuple[Function, Function]:
    torch = importlib.import_module("torch")
    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unusable(f"--device {device}: PyTorch says: {reason}") from None

    def to(array: Array) -> Any:
        if any(stride < 0 for stride in array.strides):
            array = array.copy()  # PyTorch has no negative strides
        bits = array.view(np.int16) if array.dtype.name == "bfloat16" else array
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of memory that is read-only
            tensor = torch.from_numpy(bits)
        return (tensor.view(torch.bfloat16) if bits is not array else tensor).to(device)

    def back(result: Any) -> Any:
        if not isinstance(result, torch.Tensor):
            return result
        result = result.detach().cpu()
        if result.dtype == torch.bfloat16:
            from ml_dtypes import bfloat16

            return result.view(torch.int16).numpy().view(bfloat16)
        return result.numpy()

    return to, back


def by_jax(device: str) -> tuple[Function, Function]:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)  # or float64 is float32
    platform, _, number = device.partition(":")
    try:
        place = jax.devices(platform)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError):
        raise Unusable(f"--device {device}: JAX has {', '.join(map(str, jax.devices()))}") from None

    def to(array: Array) -> Any:
        return jax.device_put(array.copy(), place)  # a copy: JAX may keep the memory it is given

    def back(result: Any) -> Any:
        return np.asarray(result) if isinstance(result, jax.Array) else result

    return to, back


LIBRARIES = {"numpy": by_numpy, "torch": by_torch, "jax": by_jax}
