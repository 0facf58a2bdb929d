"""One way to call a target, and the ways through autograd: the derivatives that PyTorch, or JAX, finds."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]
Roles = tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """One way to call a target."""

    roles: Roles
    call: Function  # takes arrays of its own library in these roles, and the keyword axis if `axis`
    text: str  # the call in words
    axis: bool = False
    library: str | None = None  # whose arrays it takes, if that is known
    named: bool = False  # whether the names of the arguments say so
    labels: bool = False  # whether one has the name of labels
    note: str = ""  # what the names say, where that is another thing


def guarded(target: Function) -> Function:
    """The same function; the end of the program in it is an error."""

    @functools.wraps(target)
    def called(*args: Any, **options: Any) -> Any:
        try:
            return target(*args, **options)
        except SystemExit as error:
            ended = RuntimeError(f"the function ended the program by {error!r}")
            raise ended.with_traceback(error.__traceback__) from None

    return called


def own_axis(target: Any) -> Function:
    """`apply`, which takes no keywords, with the last axis where its forward has one."""
    apply = target.apply
    names = list(inspect.signature(target.forward).parameters)[1:]
    constants = [-1 if name in ("dim", "axis") else None for name in names[1:]]
    while constants and constants[-1] is None:
        constants.pop()
    return lambda x: apply(x, *constants)


def through_autograd(forward: Function, name: str, what: str) -> Iterator[Way]:
    """The derivatives that PyTorch, or JAX, finds of a forward."""
    forward = guarded(forward)
    if what == "forward":
        yield Way(("x",), forward, f"{name}(x)", library="torch")
        return
    if "torch" in sys.modules:
        torch = importlib.import_module("torch")

        def vjp(x: Any, dy: Any) -> Any:
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(forward(x), x, dy)[0]

        def double_backward(x: Any, dy: Any, v: Any) -> Any:
            x, dy = x.detach().requires_grad_(), dy.detach().requires_grad_()
            with torch.enable_grad():
                dx = torch.autograd.grad(forward(x), x, dy, create_graph=True)[0]
                return torch.autograd.grad(dx, (x, dy), v, materialize_grads=True)

        def of_loss(x: Any, t: Any) -> Any:
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(forward(x, t).sum(), x)[0]

        calls: dict[str, tuple[Roles, Function]] = {
            "cross_entropy": (("x", "t"), of_loss),
            "vjp": (("x", "dy"), vjp),
            "double-backward": (("x", "dy", "v"), double_backward),
        }
        if what in calls:
            arguments = ", ".join(calls[what][0][: 1 + (what == "cross_entropy")])
            yield Way(*calls[what], f"{name}({arguments}), then autograd", library="torch")
    if "jax" in sys.modules and what == "vjp":
        jax = importlib.import_module("jax")

        def pulled_back(x: Any, dy: Any) -> Any:
            return jax.vjp(forward, x)[1](dy)[0]

        fast = jax.jit(pulled_back)

        def compiled(x: Any, dy: Any) -> Any:
            """One compilation a shape, if its control flow allows it."""
            try:
                return fast(x, dy)
            except jax.errors.JAXTypeError:
                return pulled_back(x, dy)

        yield Way(("x", "dy"), compiled, f"jax.vjp of {name}(x)", library="jax")
