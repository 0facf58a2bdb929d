"""Alias until the merge: `softgrad.arrays` under the names that `softgrad.torch` imports."""

from types import SimpleNamespace
from typing import Any

from . import arrays


def _vjp(map: Any, y: Any, dy: Any, **options: Any) -> Any:
    return arrays.product(map, "vjp", y, dy, **options)


def _jvp(map: Any, y: Any, dx: Any, **options: Any) -> Any:
    return arrays.product(map, "jvp", y, dx, **options)


def _segment_product(y: Any, v: Any, name: str, offsets: Any, **options: Any) -> Any:
    return arrays.segment_product("vjp" if name == "dy" else "jvp", y, v, offsets, **options)


maps: Any = SimpleNamespace(
    forward=arrays.forward, vjp=_vjp, jvp=_jvp, double_backward=arrays.double_backward
)
reductions: Any = SimpleNamespace(forward=arrays.reduce, vjp=arrays.reduce_vjp)
segments: Any = SimpleNamespace(softmax=arrays.segment_softmax, product=_segment_product)
losses: Any = SimpleNamespace(evaluate=arrays.evaluate)
