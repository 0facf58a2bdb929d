"""Which array library a call belongs to, and what `softgrad.functional` needs of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np

from . import arrays, checks
from .checks import Array
from .specs import Kind, Map, Reduction


class Library(Protocol):
    """The functions for the arrays of one library.

    They check their arguments, which `softgrad.functional` documents.  An array is one of that library where
    the types here say Array.
    """

    def entmax(self, alpha: Any) -> Map: ...

    def forward(
        self, map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None
    ) -> Array: ...

    def product(
        self, map: Map, kind: Kind, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
    ) -> Array: ...

    def double_backward(
        self, map: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any
    ) -> tuple[Array, Array]: ...

    def sink_softmax(
        self, x: Any, sink: Any, *, axis: Any, where: Any, scale: Any
    ) -> tuple[Array, Array]: ...

    def sink_product(
        self, kind: Kind, y: Any, y_sink: Any, v: Any, v_sink: Any, *, axis: Any, where: Any, scale: Any
    ) -> tuple[Array, Array]: ...

    def scale_vjp(self, x: Any, y: Any, dy: Any, *, axis: Any, where: Any) -> Array: ...

    def mean(self, y: Any, dy: Any, *, axis: Any, where: Any) -> Array: ...

    def vjp_of_mean(
        self, y: Any, dy: Any, mean: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
    ) -> Array: ...

    def alpha_vjp(self, y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Array: ...

    def segment_forward(
        self,
        map: Map,
        x: Any,
        offsets: Any,
        *,
        segment_ids: Any,
        num_segments: Any,
        axis: Any,
        where: Any,
        scale: Any,
        out: Array | None,
    ) -> Array: ...

    def segment_product(
        self,
        map: Map,
        kind: Kind,
        y: Any,
        v: Any,
        offsets: Any,
        *,
        segment_ids: Any,
        num_segments: Any,
        axis: Any,
        where: Any,
        scale: Any,
        out: Array | None,
    ) -> Array: ...

    def segment_reduce(
        self,
        reduction: Reduction,
        x: Any,
        offsets: Any,
        *,
        segment_ids: Any,
        num_segments: Any,
        axis: Any,
        where: Any,
        scale: Any,
    ) -> Array: ...

    def segment_reduce_vjp(
        self,
        reduction: Reduction,
        x: Any,
        dy: Any,
        offsets: Any,
        *,
        segment_ids: Any,
        num_segments: Any,
        axis: Any,
        where: Any,
        scale: Any,
        out: Array | None,
    ) -> Array: ...

    def reduce(
        self,
        reduction: Reduction,
        x: Any,
        *,
        axis: Any,
        where: Any,
        scale: Any,
        keepdims: bool,
        out: Array | None,
    ) -> Array: ...

    def reduce_vjp(
        self, reduction: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
    ) -> Array: ...

    def cross_entropy(self, x: Any, target: Any, **options: Any) -> Any: ...

    def cross_entropy_with_vjp(
        self, x: Any, target: Any, *, out: Array | None, **options: Any
    ) -> tuple[Any, Callable[..., Array]]: ...


def library(value: Any) -> Library:
    """`softgrad.torch` for tensors, `softgrad.dlpack` for arrays of other libraries on a CUDA device, or else
    `softgrad.arrays`.

    A program that has not imported torch has no tensors.
    """
    if type(value) is not np.ndarray:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            from .torch import library as of_torch

            return cast(Library, of_torch)
        if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in checks.ON_DEVICE:
            from . import dlpack

            return cast(Library, dlpack)
    return arrays
