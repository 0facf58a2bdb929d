"""A target as the checks call it: a function of NumPy arrays, y first, that takes the axis as `axis`."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import convert
from .peers import Function
from .target import ARGUMENTS, Target, found


def load(
    target: str,
    *,
    what: str = "vjp",
    map: str = "softmax",
    swapped: bool = False,
    device: str | None = None,
) -> Function:
    """The function that ``softgrad verify TARGET`` runs the checks on.

    Parameters
    ----------
    target : str
        ``package.module:function``, ``path/to/file.py:function`` or a built-in name.
    what, map, device
        As the command's options.
    swapped : bool
        Whether the function takes (dy, y).

    Returns
    -------
    callable
        Of NumPy arrays, whichever library's the target takes.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad.verify import load
    >>> load("numpy")(np.array([0.5, 0.5]), np.array([1.0, 3.0]))
    array([-0.5,  0.5])
    """
    return prepared(found(target, map, what), len(ARGUMENTS[what]), swapped, device).function


def prepared(target: Target, arguments: int, swapped: bool, device: str | None) -> Target:
    """The target with such a function in the place of its own."""

    def called(*given: Any, axis: int = -1) -> Any:
        if swapped:
            given = (given[1], given[0], *given[2:])
        options = {target.axis: axis} if target.axis else {}  # told always: it may take another if it is not
        try:
            return target.function(*given, **options)
        except SystemExit as error:
            told = RuntimeError(f"the function ended the program by {error!r}")
            raise told.with_traceback(error.__traceback__) from None

    device = device or target.device
    arrays = target.arrays or convert.library_of(called, arguments, target.module)
    function = convert.on_numpy(called, arrays, device)
    return dataclasses.replace(target, function=function, arrays=arrays, device=device)
