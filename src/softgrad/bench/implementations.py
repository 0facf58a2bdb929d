"""The implementations as `softgrad bench` calls them: each with its best settings, on arrays of its own.

Which there are, and how each is reached, says the table of `softgrad.verify.peers`.  Here they are made
ready for one case.  What is compiled is compiled for that case alone, and PyTorch and softgrad are also
given memory for the result.
"""

from __future__ import annotations

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
from .cases import Arrays, Case
from .measure import Call
from .reproduce import LARGEST_JACOBIAN

Function = Callable[..., Any]

NEW, OUT, OVER = "new", "out", "over"
INTO = {NEW: "a new array", OUT: "out=", OVER: "over its input"}


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
    finish = finishing(peer.arrays, case.device)

    def call() -> Any:
        return finish(function(*there))

    def result() -> Arrays:
        found = call()
        return tuple(map(back, found)) if isinstance(found, tuple | list) else (back(found),)

    return Ready(call, result, lambda: peak_of(peer.arrays, case, call, function, there))


def softgrads(into: str, case: Case, arguments: Arrays) -> Ready:
    function, axis = peers.softgrads(case.map, case.what), case.axis
    before: Call | None = None
    if into == NEW:

        def call() -> Any:
            return function(*arguments, axis=axis)
    else:
        *others, last = arguments
        given = last.copy() if into == OVER else last
        out = given if into == OVER else np.empty_like(last)
        if into == OVER:

            def before() -> None:
                np.copyto(given, last)

        def call() -> Any:
            return function(*others, given, axis=axis, out=out)

    def result() -> Arrays:
        if before is not None:
            before()
        found = call()
        return found if isinstance(found, tuple) else (found,)

    return Ready(call, result, lambda: measure.peak_memory(call), before)


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

        def along(*arrays: Any) -> Any:
            return function(*arrays, **{axis_name: case.axis})
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


def finishing(arrays: str, device: str) -> Function:
    """What waits until a result is there."""
    if arrays == "jax":
        wait = importlib.import_module("jax").block_until_ready
        return lambda result: wait(result) if isinstance(result, tuple) else result.block_until_ready()
    if device == "cuda":
        synchronize = importlib.import_module("torch").cuda.synchronize

        def waited(result: Any) -> Any:
            synchronize()
            return result

        return waited
    return lambda result: result


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
