"""Which array library a call belongs to, and what `softgrad.functional` needs of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np

from . import arrays, checks
from .checks import Array
from .specs import Map


class Library(Protocol):
    """The functions for the arrays of one library, such as `softgrad.arrays`, and what they return.

    They check their arguments, which `softgrad.functional` documents.  An array is one of that library where
    the types here say Array.
    """

    entmax: Callable[..., Map]
    forward: Callable[..., Array]
    product: Callable[..., Array]
    double_backward: Callable[..., tuple[Array, Array]]
    alpha_vjp: Callable[..., Array]
    sink_softmax: Callable[..., tuple[Array, Array]]
    sink_product: Callable[..., tuple[Array, Array]]
    sink_double_backward: Callable[..., tuple[Array, Array, Array, Array]]
    scale_vjp: Callable[..., Array]
    mean: Callable[..., Array]
    vjp_of_mean: Callable[..., Array]
    segment_forward: Callable[..., Array]
    segment_product: Callable[..., Array]
    segment_double_backward: Callable[..., tuple[Array, Array]]
    segment_reduce: Callable[..., Array]
    segment_reduce_vjp: Callable[..., Array]
    hessian_diagonal: Callable[..., Array]
    divergence: Callable[..., Array]
    divergence_vjp: Callable[..., tuple[Array, Array]]
    entropy_of_probabilities: Callable[..., Array]
    entropy_of_probabilities_vjp: Callable[..., Array]
    fenchel_young: Callable[..., Any]
    fenchel_young_with_vjp: Callable[..., tuple[Any, Callable[..., Array]]]
    reduce: Callable[..., Array]
    reduce_vjp: Callable[..., Array]
    cross_entropy: Callable[..., Any]
    cross_entropy_with_vjp: Callable[..., tuple[Any, Callable[..., Array]]]


def library(value: Any) -> Library:
    """`softgrad.torch` for tensors, `softgrad.jax` for JAX's arrays, `softgrad.dask` for Dask's,
    `softgrad.dlpack` for those of other libraries on a CUDA device, or else `softgrad.arrays`.

    A program that has not imported a library has no arrays of it.
    """
    if type(value) is not np.ndarray:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            from .torch import calls as of_torch

            return cast(Library, of_torch)
        jax = sys.modules.get("jax")
        if jax is not None and isinstance(value, jax.Array):
            from .jax import calls as of_jax

            return cast(Library, of_jax)
        dask = sys.modules.get("dask.array")
        if dask is not None and isinstance(value, dask.Array):
            from .dask import calls as of_dask

            return cast(Library, of_dask)
        if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in checks.ON_DEVICE:
            from . import dlpack

            return cast(Library, dlpack)
    return arrays
