"""The implementations as `softgrad bench` calls them: each with its best settings, on arrays of its own.

Which there are, and how each is reached, says the table of `softgrad.verify.peers`.  Here they are made
ready for one case.  What is compiled is compiled for that case alone, and PyTorch and softgrad are also
given memory for the result.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..commands.words import BYTES, in_words
from ..verify import convert, peers
from ..verify.target import ARGUMENTS, axis_of
from . import judges, measure
from .cases import ARRAYS, Arrays, Case
from .measure import Call
from .reproduce import LARGEST_JACOBIAN

Function = Callable[..., Any]

NEW, OUT, OVER = "new", "out", "over"
INTO = {NEW: "a new array", OUT: "out=", OVER: "in place"}


class LeftOut(Exception):
    """Why an implementation is not timed."""


@dataclass(frozen=True)
class Ready:
    """An implementation with its arguments."""

    call: Call  # gives what it gives to its users
    result: Callable[[], Arrays]  # the same as NumPy's arrays
    peak: Callable[[], int]  # bytes in use at once, beyond its inputs
    before: Call | None = None  # what makes the arguments anew


def ways(name: str, case: Case) -> list[str]:
    """Where an implementation can write to; what lacks the function altogether has none."""
    functions = peers.PEERS[name].functions
    if (case.map, case.what) not in functions:
        return []
    if name == "softgrad" and "out" in inspect.signature(functions[case.map, case.what]()).parameters:
        return [OUT, NEW, OVER]
    return [OUT, NEW] if name == "torch" and (case.map, case.what) in TORCH_OUT else [NEW]


def ready(name: str, into: str, case: Case, arguments: Arrays) -> Ready:
    if name == "softgrad":
        return softgrads(into, case, arguments)
    if name == "jacobian" and case.nbytes * case.n > LARGEST_JACOBIAN:
        raise LeftOut(f"its Jacobian would take more than {in_words(LARGEST_JACOBIAN, BYTES)}")
    peer = peers.PEERS[name]
    to, back = convert.LIBRARIES[peer.arrays](case.device)
    there = [to(array) for array in arguments]
    function = baked(name, case) if into == NEW else torch_out(case, there)
    call = calling(peer.arrays, case, function, there)

    def result() -> Arrays:
        return tuple(map(back, as_tuple(call())))

    return Ready(call, result, lambda: peak_of(peer.arrays, case, call, function, there))


def softgrads(into: str, case: Case, arguments: Arrays) -> Ready:
    function, axis = peers.softgrads(case.map, case.what), case.axis
    if into == NEW:
        new = functools.partial(function, *arguments, axis=axis)
        return Ready(new, lambda: as_tuple(new()), lambda: measure.peak_memory(new))
    *others, last = arguments
    given = last.copy() if into == OVER else last
    out = given if into == OVER else np.empty_like(last)
    call = functools.partial(function, *others, given, axis=axis, out=out)
    before = functools.partial(np.copyto, given, last) if into == OVER else None

    def result() -> Arrays:
        if before is not None:
            before()
        return as_tuple(call())

    return Ready(call, result, lambda: measure.peak_memory(call), before)


def as_tuple(result: Any) -> Arrays:
    return result if isinstance(result, tuple) else (result,)


# --- what the libraries are called with ----------------------------------------------------------------


def baked(name: str, case: Case) -> Function:
    """A function along the axis of the case, compiled for it where that is what the library does."""
    peer = peers.PEERS[name]
    function = peer.functions[case.map, case.what]()
    axis_name = axis_of(function, name, ARGUMENTS[case.what])
    if name == "torch.compile":
        function = inspect.unwrap(function)
    along = function
    if axis_name is not None:
        along = functools.partial(function, **{axis_name: case.axis})
    elif case.axis not in (-1, len(case.shape) - 1):
        move = importlib.import_module("jax.numpy" if peer.arrays == "jax" else peer.arrays).moveaxis

        def along(*arrays: Any) -> Any:
            found = function(*(move(a, case.axis, -1) for a in arrays))
            back = [move(a, -1, case.axis) for a in (found if isinstance(found, tuple) else (found,))]
            return tuple(back) if isinstance(found, tuple) else back[0]

    if peer.arrays == "jax":
        jitted: Function = importlib.import_module("jax").jit(along)
        return jitted
    if name == "torch.compile":
        importlib.import_module("torch._dynamo").reset()  # what was compiled for other cases
        compiled: Function = importlib.import_module("torch").compile(along, dynamic=False)
        return compiled
    return along


TORCH_OUT: dict[tuple[str, str], Callable[[Any, int, Any], Function]] = {
    ("softmax", "forward"): lambda torch, axis, out: lambda x: torch.softmax(x, axis, out=out),
    ("log_softmax", "forward"): lambda torch, axis, out: lambda x: torch.log_softmax(x, axis, out=out),
    ("softmax", "vjp"): lambda torch, axis, out: (
        lambda y, dy: torch._softmax_backward_data(dy, y, axis, y.dtype, grad_input=out)
    ),
    ("log_softmax", "vjp"): lambda torch, axis, out: (
        lambda y, dy: torch._log_softmax_backward_data(dy, y, axis, y.dtype, out=out)
    ),
}


def torch_out(case: Case, there: list[Any]) -> Function:
    torch = importlib.import_module("torch")
    return TORCH_OUT[case.map, case.what](torch, case.axis, torch.empty_like(there[0]))


def calling(arrays: str, case: Case, function: Function, there: list[Any]) -> Call:
    """The call, which ends when its result is there; with as few steps of Python as there can be."""
    if arrays == "jax" and ARRAYS[case.what][1] == 1:
        return lambda: function(*there).block_until_ready()
    if arrays == "jax":
        wait = importlib.import_module("jax").block_until_ready
        return lambda: wait(function(*there))
    if case.device == "cuda":
        synchronize = importlib.import_module("torch").cuda.synchronize

        def call() -> Any:
            result = function(*there)
            synchronize()
            return result

        return call
    return functools.partial(function, *there)


def peak_of(arrays: str, case: Case, call: Call, function: Function, there: list[Any]) -> int:
    """As its own allocator tells; of JAX, what XLA has planned."""
    if arrays == "numpy":
        return measure.peak_memory(call)
    if arrays == "jax":
        plan = function.lower(*there).compile().memory_analysis()  # type: ignore[attr-defined]
        return int(plan.temp_size_in_bytes + plan.output_size_in_bytes)
    torch = judges.torch_if_installed()
    if case.device != "cuda":
        return judges.peak_memory(torch, call)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return int(torch.cuda.max_memory_allocated() - before)
