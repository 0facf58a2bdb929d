"""The implementations as `softgrad bench` calls them: each with its best settings, on arrays of its own.

`softgrad.verify.peers` is the table of them.  A compiler compiles for one case alone; softgrad and PyTorch
also write into an array of the result's size.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array
from ..commands.units import BYTES, with_unit
from ..testing import convert
from ..testing.ways import parameters_of
from ..verify import peers
from . import memory
from .cases import ARRAYS, Arrays, Case
from .timing import Call

Function = Callable[..., Any]

NEW, OUT, OVER = "new", "out", "over"
INTO = {NEW: "a new array", OUT: "out=", OVER: "in place"}
TORCH_OUT = "softmax", "log_softmax", "softmax_vjp", "log_softmax_vjp"

LARGEST_JACOBIAN = 10**9  # bytes


class LeftOut(Exception):
    """Why an implementation is not timed."""


@dataclass(frozen=True)
class Ready:
    """An implementation with its arguments."""

    call: Call  # as its users call it
    peak_of: Callable[[Call], int]  # the most bytes in use at once in a call, beyond its inputs
    before: Call | None = None  # makes the arguments anew
    back: Callable[[Any], Array] = lambda result: result  # to NumPy's arrays

    def peak(self) -> int:
        return self.peak_of(self.call)

    def result(self) -> Arrays:
        if self.before is not None:
            self.before()
        result = self.call()
        return tuple(map(self.back, result if isinstance(result, tuple) else (result,)))


def destinations(name: str, case: Case) -> list[str]:
    """Where an implementation can write to: nowhere if it lacks the function."""
    functions = peers.PEERS[name].functions
    if (case.map, case.what) not in functions:
        return []
    if name == "softgrad" and "out" in inspect.signature(functions[case.map, case.what]()).parameters:
        return [OUT, NEW, OVER]
    return [OUT, NEW] if name == "torch" and case.op in TORCH_OUT else [NEW]


def ready(name: str, into: str, case: Case, arguments: Arrays) -> Ready:
    if name == "softgrad":
        return softgrad(into, case, arguments)
    if name == "jacobian" and case.jacobian_bytes > LARGEST_JACOBIAN:
        size, most = with_unit(case.jacobian_bytes, BYTES), with_unit(LARGEST_JACOBIAN, BYTES)
        raise LeftOut(f"the Jacobian would take {size}; up to {most} is built")
    library = peers.PEERS[name].arrays
    to, back = convert.LIBRARIES[library](case.device)
    given = [to(array) for array in arguments]
    call = torch_out(case, given) if into == OUT else functools.partial(specialise(name, case), *given)
    if library == "numpy":
        return Ready(call, memory.peak)
    if library == "jax":
        wait = operator.methodcaller("block_until_ready")  # with as few steps of Python as there can be
        if ARRAYS[case.what][1] > 1:
            wait = importlib.import_module("jax").block_until_ready
        return Ready(lambda: wait(call()), lambda _: memory.peak_of_jax(call), back=back)
    if case.device == "cpu":
        return Ready(call, memory.peak_of_torch, back=back)
    synchronize = importlib.import_module("torch").cuda.synchronize

    def until_done() -> Any:
        result = call()
        synchronize()
        return result

    return Ready(until_done, memory.peak_on_cuda, back=back)


def softgrad(into: str, case: Case, arguments: Arrays) -> Ready:
    *others, last = arguments
    given = last.copy() if into == OVER else last
    out = {} if into == NEW else {"out": given if into == OVER else np.empty_like(last)}
    function = peers.softgrad_function(case.map, case.what)
    call = functools.partial(function, *others, given, axis=case.axis, **out)
    return Ready(call, memory.peak, functools.partial(np.copyto, given, last) if into == OVER else None)


def torch_out(case: Case, given: list[Any]) -> Function:
    torch = importlib.import_module("torch")
    out = torch.empty_like(given[0])
    if case.what == "forward":
        return functools.partial(getattr(torch, case.map), *given, case.axis, out=out)
    y, dy = given
    if case.map == "softmax":
        return functools.partial(torch._softmax_backward_data, dy, y, case.axis, y.dtype, grad_input=out)
    return functools.partial(torch._log_softmax_backward_data, dy, y, case.axis, y.dtype, out=out)


def specialise(name: str, case: Case) -> Function:
    """A function along the axis of the case; of JAX and torch.compile compiled for the case."""
    peer = peers.PEERS[name]
    function = peer.functions[case.map, case.what]()
    taken = parameters_of(function, case.what)
    axis = taken.axis if taken else None
    if name == "torch.compile":
        function = inspect.unwrap(function)
    if axis is not None:
        function = functools.partial(function, **{axis: case.axis})
    elif case.axis not in (-1, len(case.shape) - 1):
        xp = importlib.import_module("jax.numpy" if peer.arrays == "jax" else peer.arrays)
        function = with_axis_moved(function, case.axis, xp.moveaxis)
    if peer.arrays == "jax":
        jitted: Function = importlib.import_module("jax").jit(function)
        return jitted
    if name == "torch.compile":
        importlib.import_module("torch._dynamo").reset()  # forgets other cases
        compiled: Function = importlib.import_module("torch").compile(function, dynamic=False)
        return compiled
    return function


def with_axis_moved(function: Function, axis: int, move: Function) -> Function:
    """A function of the last axis, along another."""

    def along(*arrays: Any) -> Any:
        result = function(*(move(a, axis, -1) for a in arrays))
        if isinstance(result, tuple):
            return tuple(move(a, -1, axis) for a in result)
        return move(result, -1, axis)

    return along
