"""The checks as assertions, for tests."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Unpack

import numpy.typing as npt

from . import conventions
from .budget import Budget
from .operations import Level, What
from .options import CheckOptions, parse
from .properties import EACH_LENGTH
from .run import Finding, findings, growing, name_of, unusual
from .verdicts import Function


def check(
    target: Any,
    *,
    what: What = "vjp",
    map: str = "softmax",
    args: str | None = None,
    axis: int | str | None = None,
    level: Level = "sound",
    dtypes: npt.DTypeLike | Iterable[npt.DTypeLike] = ("float32", "float64"),
    max_n: int | None = None,
    seed: int = 0,
) -> None:
    """Raise unless a layer or a function is right; how it is called is found out, as `softgrad verify` does.

    Parameters
    ----------
    target : callable or layer
        A function of x, y and dy in any order, of rows, columns or one row; a class or object with forward
        and backward; an ``nn.Module``, a ``torch.autograd.Function``; a function without arguments that
        makes one. It takes NumPy, PyTorch or JAX arrays.
    what, map, args, axis
        As the options of ``softgrad verify``: ``args="dy,y"`` says what the arguments are (of a layer those
        of backward), ``axis`` that rows are rows (-1), columns (0) or come one at a time ("none").
    level, dtypes, max_n, seed
        As in `check_vjp`.  Rows are as long as time (60 s in all) and memory (2 GB) allow.

    Raises
    ------
    AssertionError
        A check fails; the message is that of `check_vjp`.
    ValueError
        It could not be called; or it is right along another axis only, and `axis` does not say which is
        meant.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad.testing import check
    >>> class Softmax:
    ...     def forward(self, x):
    ...         e = np.exp(x - x.max(axis=1, keepdims=True))
    ...         self.out = e / e.sum(axis=1, keepdims=True)
    ...         return self.out
    ...     def backward(self, dout):
    ...         return self.out * (dout - (self.out * dout).sum(axis=1, keepdims=True))
    >>> check(Softmax, max_n=17)
    """
    name = getattr(target, "__name__", type(target).__name__)
    module = sys.modules.get(getattr(target, "__module__", ""), None)
    given: CheckOptions = {"map": map, "level": level, "dtypes": dtypes, "max_n": max_n, "seed": seed}
    parsed = parse(given)
    roles, place = args.split(",") if args else None, None if axis is None else str(axis)
    called = conventions.find(
        target, name, what, map, roles=roles, axis=place, level=level, dtype=parsed.dtypes[0], module=module
    )
    options = parse({**given, "map": called.map or map, "axis": 0 if called.axis else None})
    budget = Budget()
    budget.grow(growing(what, called.function, options), max_n or EACH_LENGTH[-1])
    given_call = unusual(what=(what, "vjp"), map=(map, "softmax"), roles=(roles, None), axis=(place, None))
    code = "softgrad.testing", f"softgrad.testing.conventions.find({name}, {name!r}{given_call}).function"
    function = budget.within(called.function)
    raise_first(name, findings(what, function, options, early=True, code=code, budget=budget))


def raise_first(name: str, found: Iterable[Finding]) -> None:
    """Raise at the first check that fails."""
    for one in found:
        if not one.passed:
            first = one.hint or f"{one.check} fails: {one.case.splitlines()[0]}"
            lines = "\n".join("    " + line for line in one.reproduce.splitlines())
            raise AssertionError(
                f"{name}: {first}\n"
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
    raise_first(name_of(fn), findings("vjp", fn, parse(options), early=True))


def check_forward(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(x)`` is the map of x.  Everything else is as in `check_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_forward
    >>> check_forward(softgrad.softmax, level="tight", dtypes=["float32"], max_n=17)
    """
    raise_first(name_of(fn), findings("forward", fn, parse(options), early=True))


def check_jvp(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(y, dx)`` is how y moves when x moves along dx.  Everything else is as in `check_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_jvp
    >>> check_jvp(softgrad.softmax_jvp, level="tight", dtypes=["float32"], max_n=17)
    """
    raise_first(name_of(fn), findings("jvp", fn, parse(options), early=True))


def check_double_backward(fn: Function, **options: Unpack[CheckOptions]) -> None:
    """Raise unless ``fn(y, dy, v)`` is ``(grad_x, grad_dy)``, the gradients of ⟨v, vjp(y(x), dy)⟩.

    Everything else is as in `check_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_double_backward
    >>> check_double_backward(softgrad.softmax_double_backward, level="tight", dtypes=["float32"], max_n=17)
    """
    raise_first(name_of(fn), findings("double-backward", fn, parse(options), early=True))
