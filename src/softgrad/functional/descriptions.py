"""What the public functions share: their docstrings' sections, each said once, and `with_vjp`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from ..checks import Array

Function = TypeVar("Function", bound=Callable[..., Any])
P = ParamSpec("P")
Both = tuple[Array, Callable[..., Array]]
BOTH = "tuple[Array, Callable[..., Array]]"  # as it is written

# of each parameter its type, and what it means
PARAMETERS_TEXT = """
x : array_like
    Logits, of any shape and memory layout.  float16, bfloat16 (``ml_dtypes``), float32 and float64 are
    computed and returned as what they are; integers become float64.  {infinite}
y : array_like
    What `{forward}` returned, which is all that has to be kept of the forward pass.  The options are those
    that it was given.
dy : array_like
    The gradient of the loss with respect to {result}.  Where its dtype is another than that of `{kept}`,
    both are converted to the one that NumPy promotes them to.  {not_finite}
dx : array_like
    The tangent of x, of the shape of `y`.  For its dtype, NaN and inf see `{forward}_vjp`.
v : array_like
    The gradient of the loss with respect to the result of `{forward}_vjp`, of the shape of `y`.
alpha : float
    At least 1.  1 is `softmax` and 2 is `sparsemax`, to the last bit; the larger it is, the fewer y are
    not 0.
offsets : array_like of int, optional
    Segment s is ``offsets[s]`` … ``offsets[s + 1] - 1`` along the axis.  These numbers, one more than
    there are segments, ascend from 0 to the size of the axis; two that are equal make an empty segment.
    (The ``indptr`` of a sparse matrix in CSR format is of this form.)
segment_ids : array_like of int, optional
    In place of `offsets` the number of the segment of each row, in any order.
num_segments : int, optional
    With `segment_ids`: how many segments there are; without it the largest number and 1.
target : array_like
    *Classes*: integers of any dtype from 0 to n − 1, of the shape of `x` without the axis.  Or *weights*:
    floats of the shape of `x`, which need not sum to 1; dtypes are promoted as by NumPy.
p : array_like
    Probabilities, which are not below 0; those of a row sum to 1, but nothing asks for that.  dtypes are
    kept as by `softmax`.
target_logits : array_like, optional
    The logits of the target, of the shape of `x`; the temperature is theirs, too.
target_probs : array_like, optional
    In its place the probabilities of the target, not below 0, which are divided by their sum.
direction : {{"forward", "reverse"}}
    KL(target‖softmax(x)), or KL(softmax(x)‖target).
temperature : float
    T of softmax(x/T), a positive number.  (The result is not multiplied by T².)
h : array_like, optional
    The diagonal of ∂²L/∂y², of the shape of `y`; None where L is linear in y.
axis : {axes}
    {rows}
label_smoothing : float
    ε, from 0 to 1.
ignore_index : int, optional
    The target of rows that do not count, in range or not: their loss is 0, whatever `x` holds there, and
    the mean is that of the others.  For classes only.
reduction : {{"mean", "sum", "none"}}
    The mean over the rows that count, their sum, or a loss for each row.{weighted}
sample_weight : array_like, optional
    A weight w for each row, which multiplies its loss and gradient, of the shape of `x` without the axis or
    what broadcasts to that; booleans are a mask.  A row of weight 0 may hold NaN.
weight : array_like, optional
    A weight for each class, of shape (n,), as in PyTorch: the terms of the loss are multiplied by those of
    their classes.
z_loss : float
    z: z·(log Σ exp(x))² is added to the loss of each row.
dtype : dtype, optional
    That of the loss, where it is to be another than that of `x`: a loss in bfloat16 is off by 0.03.  The
    gradient has that of `x` all the same.
where : array_like of bool, optional
    A mask that broadcasts to the shape of the arrays.  An entry that is False has no part, whatever they
    hold there, NaN included{masked}.
scale : {scale}
sink : array_like
    One more logit for each row, which takes part in the sum and is not returned.  It broadcasts to the
    shape of `x` with the axis at length 1; `scale` does not multiply it.  0 is softmax1; −inf is no sink.
y_sink : array_like
    What `sink_softmax` returned beside `y`.
dy_sink : array_like, optional
    The gradient of the loss with respect to `y_sink`, if the loss depends on it.
dx_sink : array_like, optional
    The tangent of the sink.
v_sink : array_like, optional
    The gradient of the loss with respect to the dsink of `{forward}_vjp`, if the loss depends on it.
mean : array_like, optional
    The mean of `dy` to subtract, one number for each row with the axis at length 1, where `y` and `dy` are
    pieces of rows.  Without it ⟨y,dy⟩/⟨y,1⟩ of what is given.  With it each element is computed by itself,
    exact for that mean, and 0 where y is.
return_mean : bool
    Whether to return (dx, mean), the mean in float64 with the axis at length 1.
empty : {{"zero", "nan", "raise"}}
    What a row gives that has nothing in it (all −inf, or all masked): {absent}, NaN, or a ValueError.
keepdims : bool
    Whether the result keeps the reduced axes, with length 1.
out : numpy.ndarray, optional
    Where to write the result: any writeable array of its shape and dtype, strided or not{in_place}.  With
    it, scratch memory is at most 1 MB a thread, or some rows (3 to 12) if those are longer.
"""
PARAMETERS = dict(re.findall(r"(?ms)^(\w+) : (.*?)(?=^\w|\Z)", PARAMETERS_TEXT))

# by the end of the function's name, the first that fits
RETURNS = {
    "_with_vjp": """
{returned} : numpy.ndarray
    What `{forward}` returns.
vjp : callable
    ``vjp(dy, *, out=None)`` is ``{forward}_vjp({kept}, dy, ...)`` with the same options.  It keeps {kept},
    not a copy, which must not be changed before the last call.""",
    "_double_backward": """
grad_x, grad_dy : numpy.ndarray
    Of the shape of `y`.  Both are 0 in rows of which nothing is left.""",
    "_jvp": """
dy : numpy.ndarray
    Of the shape of `y`; `out` if that was given.""",
    "_vjp": """
dx : numpy.ndarray
    Of the shape of `{kept}`; `out` if that was given.  Exactly 0 in rows with nothing in them.""",
    "": """
y : numpy.ndarray
    Of the shape of `x`; `out` if that was given.  A 0-d array counts as a row of one number, and gives a
    NumPy scalar.""",
}

WITH_VJP_EXAMPLE = """
>>> import numpy as np, softgrad
>>> y, vjp = softgrad.{forward}_with_vjp(np.array([1.0, 0.5, -1.0]), scale=0.5)
>>> dy = np.array([1.0, 0.0, 0.0])
>>> np.array_equal(vjp(dy), softgrad.{forward}_vjp(y, dy, scale=0.5))
True"""

RAISES = """
TypeError
    An array is boolean, complex, of objects, masked, or of a library on the CPU that is not served; an option
    is of another type.
ValueError
    A shape does not fit (only `where` is broadcast); a number is out of range, not finite, or an option
    another word than those above; `out` is read-only, or overlaps an input in part.
numpy.exceptions.AxisError
    There is no such axis."""

NO_PART = "An entry for which ``scale * x`` is −inf has no part"
DEFAULTS = {
    "scale": "float\n    The factor of the logits, a finite number.",
    "axes": "int, tuple of int or None",
    "rows": "The axis or axes of a row; None is all of them.",
    "infinite": f"{NO_PART}, and a NaN or +inf makes its row NaN.",
    "not_finite": "A NaN or inf makes its row NaN, also where the weight is 0, but not a row of weights 0.",
    "result": "y, of its shape",
    "masked": "; the result is 0 there",
    "absent": "0",
    "in_place": ", and also an input itself",
    "returned": "y",
    "weighted": "",
    "kept": "y",
}


def documented(forward: str, **words: str) -> Callable[[Function], Function]:
    """Add the sections Parameters, Returns (if there is none) and Raises to a docstring.

    `forward` names the map or reduction; `words` are what the texts say otherwise than by `DEFAULTS`.
    """
    words = DEFAULTS | {"forward": forward} | words

    def add(function: Function) -> Function:
        if function.__doc__ is None:  # python -OO
            return function
        text = inspect.cleandoc(function.__doc__)
        summary, *others = re.split(r"(?m)^(?=(?:Returns|Notes|Examples)\n--)", text)
        names = inspect.signature(function).parameters
        parameters = "\n".join(entry(name, PARAMETERS[name].format_map(words)) for name in names)
        if not others:
            others = [section("Examples", WITH_VJP_EXAMPLE.format_map(words))]
        if not others[0].startswith("Returns"):
            ending = next(ending for ending in RETURNS if function.__name__.endswith(ending))
            others.insert(0, section("Returns", RETURNS[ending].format_map(words)))
        others.insert(1, section("Raises", RAISES))
        function.__doc__ = "".join([f"{summary.rstrip()}\n\n", section("Parameters", parameters), *others])
        return function

    return add


def section(title: str, text: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{text.strip()}\n\n"


def entry(name: str, text: str) -> str:
    """A parameter with its type, and below it what it means, in lines of up to 110 characters."""
    kind, _, meaning = text.partition("\n")
    lines = re.sub(r"(.{1,106})(?: |$)", r"    \1\n", " ".join(meaning.split()))
    return f"{name} : {kind}\n{lines.rstrip()}"


NOT_KEPT = "empty", "keepdims", "out"  # beside the first argument, what a forward takes and its vjp does not


def with_vjp(
    forward: Callable[P, Array], vjp: Callable[..., Any], *, keeps_x: bool = False
) -> Callable[[Callable[[], None]], Callable[P, Both]]:
    """Make of a name and a docstring the function that returns what `forward` does, and its vjp."""
    signature = inspect.signature(forward)
    names = tuple(signature.parameters)

    def make(described: Callable[[], None]) -> Callable[P, Both]:
        def both(*arguments: P.args, **options: P.kwargs) -> Both:
            y = forward(*arguments, **options)
            given = dict(zip(names, arguments, strict=False)) | options
            kept = {name: value for name, value in given.items() if name not in (names[0], *NOT_KEPT)}
            return y, partial(vjp, given[names[0]] if keeps_x else y, **kept)

        both.__annotations__ = forward.__annotations__ | {"return": Both}
        vars(both)["__signature__"] = signature.replace(return_annotation=BOTH)
        return wraps(described, assigned=("__module__", "__name__", "__qualname__", "__doc__"))(both)

    return make
