"""Which kernels a call runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import threads


@dataclass(frozen=True, slots=True)
class Ran:
    """One step of a call."""

    by: str  # "numba": a kernel on the CPU; "triton": one on a GPU; "formulas": the library's own operations
    kernel: str  # as in `softgrad.specs`; of formulas the name of the map
    threads: int


def explain(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Ran, ...]:
    """Call a function, and list the kernels of softgrad that ran.

    Parameters
    ----------
    function : callable
        A function of softgrad's, or any that calls some: a model, ``loss.backward``.
    *arguments, **options
        What to call it with.

    Returns
    -------
    tuple of Ran
        Each step, with ``by`` ("numba" for the kernels on the CPU, "triton" for those on CUDA, "formulas" for
        the array library's own operations), ``kernel`` and ``threads``.  Empty if no kernel was called.

    Notes
    -----
    The result of the call is dropped.  Kernels that other threads call meanwhile are listed, too.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.explain(softgrad.softmax, np.ones((3, 1000)))
    (Ran(by='numba', kernel='softmax', threads=1),)
    """
    with threads.watched() as seen:
        function(*arguments, **options)
    return tuple(Ran(*step) for step in seen)
