"""The checks as assertions, for tests."""

from __future__ import annotations

from typing import Unpack

from .operations import What
from .options import CheckOptions, parse
from .run import findings, name_of
from .verdicts import Function


def check(what: What, fn: Function, options: CheckOptions) -> None:
    """Raise at the first check that fails."""
    for one in findings(what, fn, parse(options), early=True):
        if not one.passed:
            first = one.hint or f"{one.check} fails: {one.case.splitlines()[0]}"
            lines = "\n".join("    " + line for line in one.reproduce.splitlines())
            raise AssertionError(
                f"{name_of(fn)}: {first}\n"
                f"check: {one.check} ({one.why})\n"
                f"smallest failing case: {one.case}\n"
                f"to reproduce:\n{lines}"
            )


def check_vjp(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(y, dy)`` is ∂L/∂x, given what the map put out and ∂L/∂y.

    Parameters
    ----------
    fn : callable
        Takes NumPy arrays of shape ``(rows, n)`` and one dtype, rows along the last axis, and returns an
        array of that shape and dtype.
    map : str, optional
        The map whose gradient it is: a name in `softgrad.specs.MAPS`; without it softmax.
    level : {"sound", "tight"}, optional
        How exact it must be; without it sound.  *sound*: as exact as the plain closed form is allowed to be
        in the dtype's own precision, 16-bit types with sums in float32; the bound has the condition of the
        row in it, and what is too large by 1 % throughout is beyond it.  *tight*: softgrad's own contract.
    dtypes : sequence of dtypes, optional
        Of float16, bfloat16, float32 and float64; without it the last two.  A function is judged at each.
    max_n : int, optional
        The longest rows, for what builds a Jacobian; without it there are rows of 100,000.
    axis : int or sequence of int, optional
        Axes for which ``fn(y, dy, axis=axis)`` is tested as well, on arrays of two and three dimensions.
    seed : int, optional
        Of the random numbers.

    Raises
    ------
    AssertionError
        A check fails.  The first line says what is probably wrong, if the failure is that of a known
        mistake; then come the check, the smallest case that fails, and three lines of code that repeat it.
        An exception of `fn` is a failed check.
    ValueError
        An option has a value that it does not take.
    TypeError
        There is no option of that name.

    Notes
    -----
    *Time*: a few seconds for a NumPy function.  *Memory*: some 100 MB, most of it exact results, which are
    kept for the next call.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad.testing import check_vjp
    >>> def closed_form(y, dy):
    ...     return y * (dy - np.sum(y * dy, axis=-1, keepdims=True))
    >>> check_vjp(closed_form, max_n=100)
    >>> def elementwise(y, dy):
    ...     return y * (1 - y) * dy
    >>> try:
    ...     check_vjp(elementwise)
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[0][:35])
    elementwise: elementwise y(1−y)∘dy:
    """
    check("vjp", fn, options)


def check_forward(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(x)`` is the map of x.  Everything else is as in `check_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_forward
    >>> check_forward(softgrad.softmax, level="tight", dtypes=["float32"], max_n=17)
    """
    check("forward", fn, options)


def check_jvp(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(y, dx)`` is how y moves when x moves along dx.  Everything else is as in `check_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_jvp
    >>> check_jvp(softgrad.softmax_jvp, level="tight", dtypes=["float32"], max_n=17)
    """
    check("jvp", fn, options)


def check_double_backward(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(y, dy, v)`` is ``(grad_x, grad_dy)``, the gradients of ⟨v, vjp(y(x), dy)⟩.

    Everything else is as in `check_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_double_backward
    >>> check_double_backward(softgrad.softmax_double_backward, level="tight", dtypes=["float32"], max_n=17)
    """
    check("double-backward", fn, options)
