"""The arrays of PyTorch and JAX: a function on them as one on NumPy's."""

from __future__ import annotations

import importlib
import sys
import warnings
from inspect import ismodule
from types import ModuleType
from typing import Any

import numpy as np

from ..checks import Array
from .verdicts import Function


class Unusable(Exception):
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


def library_of(function: Function, arguments: int, module: ModuleType | None) -> str:
    """Whose arrays a function takes: NumPy's if it gives such back for them, or else PyTorch's or JAX's.

    Of these only what was imported with its module is tried.  A function that fails with all of them is taken
    for one of the library that its module imports, so that its error is that with its own arrays.
    """
    rows = [np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], np.float32) for _ in range(arguments)]
    imported = [name for name in LIBRARIES if name == "numpy" or name in sys.modules]
    for name in imported:
        to, _ = LIBRARIES[name]("cpu")
        try:
            result = function(*map(to, rows))
        except (Exception, SystemExit):
            continue
        result = result[0] if isinstance(result, tuple | list) and result else result
        for other in imported:
            if isinstance(result, array_type(other)):
                return other if name == "numpy" else name
    known = {value.__name__.partition(".")[0] for value in vars(module or sys).values() if ismodule(value)}
    return next((name for name in reversed(imported) if name in known), "numpy")


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
