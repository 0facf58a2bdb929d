"""Arrays of any library on a CUDA device, such as CuPy's: `softgrad.torch` on tensors of the same memory.

This module has the functions of `dispatch.Library`, those for tensors, with arrays as arguments and results.
DLPack passes the arrays without a copy and orders the work of the two libraries: PyTorch's current stream
waits for what the caller's library has queued (`torch.from_dlpack`), and the current stream of that library
for what PyTorch has (its own `from_dlpack`).  The host waits for nothing.

The memory of a result is PyTorch's, which reuses it, once the result is dropped, in the order of its own
current stream.  Where that is another than the caller's, the next call here waits for the caller's before it
writes there; other work of PyTorch's does not, unless the program lets both use one stream.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

from . import checks
from .checks import CUDA, MANAGED

NEEDED = "arrays on a CUDA device are computed on by PyTorch, which {}: pip install 'softgrad[gpu]'"
try:
    import torch
    from torch.utils.dlpack import from_dlpack

    from .torch import calls as of_torch
except ImportError as error:
    raise ImportError(NEEDED.format(f"could not be imported ({error})")) from error


def is_array(value: Any) -> bool:
    return hasattr(value, "__dlpack_device__")


def device_of(array: Any) -> tuple[int, int]:
    """The kind of the device, and its number."""
    kind, number = array.__dlpack_device__()
    return int(kind), int(number)


class Caller:
    """The library of the first array of a call, and the device of all of them."""

    def __init__(self, array: Any) -> None:
        self.kind = checks.kind(array)
        self.device = device_of(array)
        if self.device[0] == MANAGED:
            raise TypeError(
                f"the {self.kind} is in managed memory of CUDA, in which PyTorch takes no arrays: give a "
                f"copy in memory of the device"
            )
        if self.device[0] == CUDA and torch.version.cuda is None:
            raise ImportError(NEEDED.format("is installed, but built without CUDA"))
        if hasattr(array, "__array_namespace__"):
            self.library = array.__array_namespace__()
        else:
            self.library = sys.modules[type(array).__module__.partition(".")[0]]
        if not hasattr(self.library, "from_dlpack"):
            raise TypeError(
                f"the {self.kind} can be read, but {self.library.__name__} has no from_dlpack to take a "
                f"result with: give torch.from_dlpack(...) of it"
            )

    def call(
        self, function: Callable[..., Any], outs: tuple[tuple[Any, Any], ...], *arguments: Any, **options: Any
    ) -> Any:
        """Call a function of tensors with arrays; `outs`: tensors that it may return, with their arrays."""
        with torch.no_grad(), self.current():
            tensors = {id(a): self.tensor(a) for a in (*arguments, *options.values()) if is_array(a)}
            out = options.get("out")
            if id(out) in tensors:
                if checks.kind(out).startswith("jax"):  # DLPack does not say so
                    raise TypeError(f"out is a {checks.kind(out)}, which may not be written to: leave it out")
                outs = (*outs, (tensors[id(out)], out))
            try:
                result = function(
                    *[tensors.get(id(a), a) for a in arguments],
                    **{name: tensors.get(id(a), a) for name, a in options.items()},
                )
            except Exception as error:
                error.add_note(f"(Of a {self.kind} softgrad takes the tensor of the same memory.)")
                raise
            return self.arrays(result, outs)

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Make the device the current one: its streams are meant, and PyTorch exports no other's memory."""
        return torch.cuda.device(self.device[1]) if self.device[0] == CUDA else contextlib.nullcontext()

    def tensor(self, array: Any) -> Any:
        """The tensor of the same memory."""
        if device_of(array) != self.device:
            raise TypeError(
                f"a {checks.kind(array)} was given together with a {self.kind} that is on another device: "
                f"give {self.library.__name__}.asarray(...) of it, on the device of that"
            )
        if isinstance(array, torch.Tensor):
            return array
        if any(step < 0 for step in getattr(array, "strides", None) or ()):  # PyTorch would end the process
            raise ValueError(
                f"a {checks.kind(array)} with a negative stride was given, which no torch.Tensor has: give "
                f"{self.library.__name__}.ascontiguousarray(...) of it"
            )
        return from_dlpack(array)

    def arrays(self, result: Any, outs: tuple[tuple[Any, Any], ...]) -> Any:
        """The result of a function of tensors as arrays of the caller."""
        if isinstance(result, tuple):
            return tuple(self.arrays(part, outs) for part in result)
        if not isinstance(result, torch.Tensor):  # the vjp of `cross_entropy_with_vjp`
            return functools.partial(self.call, result, outs)
        array = self.library.from_dlpack(result)  # of an `out` too: the caller's stream is to wait
        return next((out for tensor, out in outs if tensor is result), array)


def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    first = next(filter(is_array, arguments), None)
    if first is None:  # `entmax`, which takes an alpha
        return function(*arguments, **options)
    return Caller(first).call(function, (), *arguments, **options)


def __getattr__(name: str) -> Callable[..., Any]:
    """A function of `dispatch.Library`: that for tensors, given and returning arrays."""
    return functools.partial(call, getattr(of_torch, name))
