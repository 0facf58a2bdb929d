"""A function on PyTorch's or JAX's arrays, seen as one on NumPy's."""

from __future__ import annotations

import importlib
import sys
import warnings
from inspect import ismodule
from types import ModuleType
from typing import Any

import numpy as np

from ..checks import Array
from .peers import Function
from .target import Unusable


def on_numpy(function: Function, arrays: str, device: str) -> Function:
    """The function, given arrays of its own library and giving back NumPy's."""
    to, back = LIBRARIES[arrays](device)

    def fn(*given: Array, **options: Any) -> Any:
        there = [to(array) for array in given]
        result = function(*there, **options)
        if arrays == "torch":
            for array, sent in zip(given, there, strict=True):
                tell_of_changes(array, back(sent))
        return tuple(map(back, result)) if isinstance(result, tuple | list) else back(result)

    return fn


def tell_of_changes(array: Array, sent: Array) -> None:
    """What was done to the copy of an input is done to the input, where the checks look for it."""
    if np.may_share_memory(sent, array) or sent.tobytes() == array.tobytes():
        return
    if not array.flags.writeable:
        raise ValueError("the function wrote to an input")
    array[...] = sent


def library_of(function: Function, arguments: int, module: ModuleType | None) -> str:
    """Whose arrays a function takes: NumPy's if it gives such back for them, or else PyTorch's or JAX's.

    Of these only what was imported with its module is tried.  A function that fails with all of them is taken
    for one of the library that its module knows, so that the error to be seen is that with its own arrays.
    """
    rows = [np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], np.float32) for _ in range(arguments)]
    here = [name for name in LIBRARIES if name == "numpy" or name in sys.modules]
    for name in here:
        to, _ = LIBRARIES[name]("cpu")
        try:
            result = function(*map(to, rows))
        except (Exception, SystemExit):
            continue
        result = result[0] if isinstance(result, tuple | list) and result else result
        for other in here:
            if isinstance(result, array_type(other)):
                return other if name == "numpy" else name
    known = {value.__name__.partition(".")[0] for value in vars(module or sys).values() if ismodule(value)}
    return next((name for name in reversed(here) if name in known), "numpy")


def array_type(library: str) -> type:
    name = {"numpy": "ndarray", "torch": "Tensor", "jax": "Array"}[library]
    found: type = getattr(importlib.import_module(library), name)
    return found


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
            array = array.copy()  # which PyTorch has not
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
        there = ", ".join(str(d) for d in jax.devices())
        raise Unusable(f"--device {device}: JAX has {there}") from None

    def to(array: Array) -> Any:
        return jax.device_put(array.copy(), place)  # a copy: JAX may keep the memory it is given

    def back(result: Any) -> Any:
        return np.asarray(result) if isinstance(result, jax.Array) else result

    return to, back


LIBRARIES = {"numpy": by_numpy, "torch": by_torch, "jax": by_jax}
