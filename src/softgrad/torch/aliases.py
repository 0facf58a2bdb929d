"""Aliases until the merge: `library` by the names that `functional` and `dlpack` had for it."""

from types import SimpleNamespace
from typing import Any

from . import library, segments


def vjp(spec: Any, y: Any, dy: Any, **options: Any) -> Any:
    return library.product(spec, "vjp", y, dy, **options)


def jvp(spec: Any, y: Any, dx: Any, **options: Any) -> Any:
    return library.product(spec, "jvp", y, dx, **options)


def with_vjp(spec: Any, x: Any, *, empty: Any, out: Any, **options: Any) -> Any:
    y = library.forward(spec, x, empty=empty, out=out, **options)
    return y, lambda dy, *, out=None: vjp(spec, y, dy, out=out, **options)


def reduce_with_vjp(spec: Any, x: Any, *, keepdims: Any, out: Any, **options: Any) -> Any:
    result = library.reduce(spec, x, keepdims=keepdims, out=out, **options)
    return result, lambda dy, *, out=None: library.reduce_vjp(spec, x, dy, out=out, **options)


def segment_product(y: Any, v: Any, name: str, offsets: Any, **options: Any) -> Any:
    return library.segment_product("vjp" if name == "dy" else "jvp", y, v, offsets, **options)


maps: Any = SimpleNamespace(
    forward=library.forward,
    vjp=vjp,
    jvp=jvp,
    double_backward=library.double_backward,
    with_vjp=with_vjp,
)
alpha: Any = SimpleNamespace(row=library.entmax, alpha_vjp=library.alpha_vjp)
reductions: Any = SimpleNamespace(forward=library.reduce, vjp=library.reduce_vjp, with_vjp=reduce_with_vjp)
segments.softmax, segments.product = library.segment_softmax, segment_product  # type: ignore[attr-defined]
