"""softmax and its vjp in each library, as its users call them.

NumPy has neither: there it is the article's closed form that counts (softmax with the maximum taken off,
as SciPy does).  SciPy has no vjp.  JAX is compiled by `jit`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import softgrad
from softgrad.bench import judges
from softgrad.formulas import softmax as formulas

Array = np.ndarray
Call = Callable[[], Any]

LIBRARIES = "softgrad", "NumPy", "SciPy", "PyTorch", "JAX"


def load_jax() -> Any:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def rows_last(function: Callable[..., Array], *arrays: Array, axis: int) -> Array:
    """Apply a formula, which knows the last axis only, along another."""
    return np.moveaxis(function(*(np.moveaxis(a, axis, -1) for a in arrays), np), -1, axis)


def softmax(library: str, x: Array, axis: int = -1) -> Call | None:
    """A call that gives softmax(x) as a new array; None where the library has none."""
    match library:
        case "softgrad":
            return lambda: softgrad.softmax(x, axis=axis)
        case "NumPy":
            return lambda: rows_last(formulas.softmax, x, axis=axis)
        case "SciPy":
            special = importlib.import_module("scipy.special")
            return lambda: special.softmax(x, axis=axis)
        case "PyTorch":
            torch = judges.torch_if_installed()
            there = judges.tensor(torch, x)
            return lambda: torch.softmax(there, axis)
        case "JAX":
            jax = load_jax()
            on_jax, function = jax.numpy.asarray(x), jax.jit(lambda x: jax.nn.softmax(x, axis=axis))
            return lambda: function(on_jax).block_until_ready()
    raise ValueError(library)


def vjp(library: str, y: Array, dy: Array, axis: int = -1) -> Call | None:
    """A call that gives ∂L/∂x as a new array; None where the library has none."""
    match library:
        case "softgrad":
            return lambda: softgrad.softmax_vjp(y, dy, axis=axis)
        case "NumPy":
            return lambda: rows_last(formulas.vjp, y, dy, axis=axis)
        case "SciPy":
            return None
        case "PyTorch":
            torch = judges.torch_if_installed()
            y_there, dy_there = judges.tensor(torch, y), judges.tensor(torch, dy)
            return lambda: torch._softmax_backward_data(dy_there, y_there, axis, y_there.dtype)
        case "JAX":
            jax = load_jax()
            y_on_jax, dy_on_jax = jax.numpy.asarray(y), jax.numpy.asarray(dy)
            function = jax.jit(lambda y, dy: y * (dy - (y * dy).sum(axis, keepdims=True)))
            return lambda: function(y_on_jax, dy_on_jax).block_until_ready()
    raise ValueError(library)


def as_numpy(result: Any) -> Array:
    """What a call gave, as a NumPy array of the same dtype."""
    if type(result).__module__.startswith("torch"):
        if str(result.dtype) == "torch.bfloat16":
            from ml_dtypes import bfloat16

            return result.view(judges.torch_if_installed().int16).numpy().view(bfloat16)
        return result.numpy()
    return np.asarray(result)


# --- into memory that is ready: softgrad and PyTorch alone ---------------------------------------------


def softmax_into(x: Array, axis: int) -> dict[str, Call]:
    torch = judges.torch_if_installed()
    ours, theirs = np.empty_like(x), np.empty_like(x)
    x_there, out_there = judges.tensor(torch, x), judges.tensor(torch, theirs)
    return {
        "softgrad": lambda: softgrad.softmax(x, axis=axis, out=ours),
        "PyTorch": lambda: torch.softmax(x_there, axis, out=out_there),
    }


def vjp_into(y: Array, dy: Array, axis: int) -> dict[str, Call]:
    torch = judges.torch_if_installed()
    ours, theirs = np.empty_like(y), np.empty_like(y)
    y_there, dy_there, out_there = (judges.tensor(torch, a) for a in (y, dy, theirs))
    dtype = y_there.dtype
    return {
        "softgrad": lambda: softgrad.softmax_vjp(y, dy, axis=axis, out=ours),
        "PyTorch": lambda: torch._softmax_backward_data(dy_there, y_there, axis, dtype, grad_input=out_there),
    }
