"""What is tested: the functions of each map, their exact results, and how far off they may be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ..checks import Array
from . import bounds, errors, mutants, oracle
from .mutants import Mutant

What = Literal["forward", "vjp", "jvp", "double-backward"]
Level = Literal["sound", "tight"]
Arrays = tuple[Array, ...]
ALPHAS = {"softmax": 1, "sparsemax": 2, "entmax": 1.5}
ARGUMENTS = {
    "forward": ("x",),
    "vjp": ("y", "dy"),
    "jvp": ("y", "dx"),
    "double-backward": ("y", "dy", "v"),
    "cross_entropy": ("x", "t"),
}
# Beside the names of maps: the operation whose targets are whole numbers, and those of functions of logits.
LABELS, OF_LOGITS = "cross_entropy of labels", " of logits"
# the line of NumPy that would be right, for hints
SUM = ".sum(axis=-1, keepdims=True)"
LINES = {
    ("softmax", "forward"): f"e = np.exp(x - x.max(axis=-1, keepdims=True)); y = e / e{SUM}",
    ("softmax", "vjp"): f"dx = y * (dy - (y * dy){SUM})",
    ("softmax", "jvp"): f"dy = y * (dx - (y * dx){SUM})",
    ("softmax", "double-backward"): f"g = v * (dy - (y * dy){SUM}) - dy * (y * v){SUM}; "
    f"grad_x, grad_dy = y * (g - (y * g){SUM}), y * (v - (y * v){SUM})",
    ("log_softmax", "forward"): f"t = x - x.max(axis=-1, keepdims=True); y = t - np.log(np.exp(t){SUM})",
    ("log_softmax", "vjp"): f"dx = dy - np.exp(y) * dy{SUM}",
    ("log_softmax", "jvp"): f"dy = dx - (np.exp(y) * dx){SUM}",
    ("sparsemax", "vjp"): f"s = y > 0; dx = s * (dy - (s * dy){SUM} / s{SUM})",
    ("cross_entropy", "vjp"): "dx = softmax(x) - onehot, divided by the number of rows for a mean; "
    f"dx = softmax(x) * t{SUM} - t of targets t that do not sum to 1",
    ("entmax", "vjp"): f"s = np.sqrt(y); dx = s * (dy - (s * dy){SUM} / s{SUM})",
}


@dataclass(frozen=True, eq=False)
class Operation:
    """One function of a map.  All functions work along the last axis."""

    map: str
    what: What
    exact: Callable[..., Arrays]  # the results in longdouble, of the arguments
    # of the arguments and exact results: the error that each result may have; a number for the norm of each
    # row, or one for each element, where `ulps` is given or softgrad's contract is such
    tight: Callable[..., Arrays]
    sound: Callable[..., Arrays]
    mutants: Mapping[str, Mutant] = field(default_factory=dict)
    # the jvp as a derivative of the map itself, in float64: (y, v)
    derivative: Callable[[Array, Array], Array] | None = None
    ulps: Callable[[Array, Array], Array] | None = None  # (result, exact): the error of each element in ulp
    # of the arguments and exact results: the unit of tight errors, in eps, element by element
    terms: Callable[..., Arrays] | None = None
    beside: str = "|dx| + y·D"  # the terms in words
    absent: float = 0.0  # y where x is −inf
    leaves_out: frozenset[str] = frozenset()  # checks of what is not true of it
    tight_only: frozenset[str] = frozenset()  # checks of what only softgrad's contract has
    same_as: Operation | None = None  # a function with the same results, of which the exact ones are shared

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that the checks give."""
        return ARGUMENTS[self.kind]

    @property
    def kind(self) -> str:
        """What is differentiated: a map, in one of the ways of `What`, or a loss."""
        return "cross_entropy" if self.base == "cross_entropy" else self.what

    @property
    def results(self) -> int:
        return 2 if self.what == "double-backward" else 1

    @property
    def line(self) -> str:
        return LINES.get((self.base, self.what), "")

    @property
    def base(self) -> str:
        """The name of the map alone."""
        return self.map.partition(" of ")[0]

    def arguments(self, x: Array, u: Array, v: Array) -> Arrays:
        """What it is called with, of logits and two gradients: x; or y, rounded, and one gradient or two.

        Of sparsemax and entmax y is that of x/4, so that the support has some elements.
        """
        if self.what == "forward":
            return (x,)
        if self.kind == "cross_entropy":
            t = oracle.softmax(u)
            one_hot = np.arange(u.shape[-1]) == u.argmax(axis=-1)[..., None]
            return x, (one_hot if self.map == LABELS else t).astype(x.dtype)
        if self.base == "log_softmax":
            y = oracle.log_softmax(x)
        elif self.base == "softmax":
            y = oracle.softmax(x)
        else:
            y = oracle.entmax(x / x.dtype.type(4), ALPHAS[self.base])
        return (y.astype(x.dtype), u, v)[: 3 if self.what == "double-backward" else 2]

    def allowed(self, level: Level, arguments: Arrays, exact: Arrays) -> Arrays:
        """How far off each result may be: of each element, or of the norm of each row."""
        tight = self.tight(*arguments, *exact)
        if level == "tight":
            return tight
        pairs = zip(self.sound(*arguments, *exact), tight, strict=True)
        return tuple(np.maximum(s, t if t.ndim == s.ndim else errors.norm(t)) for s, t in pairs)

    def unit(self, level: str) -> str:
        """The unit of the errors that are shown."""
        if self.ulps is not None:
            return "ulp"
        by_element = level == "tight" and self.terms is not None
        return f"eps·({self.beside})" if by_element else "eps of the row's norm"

    def has(self, check: str, level: Level) -> bool:
        if check in self.leaves_out or (check == "adjoint" and self.derivative is None):
            return False
        return level == "tight" or check not in self.tight_only


# --- softmax, sparsemax and entmax ---------------------------------------------------------------------


def derivative(y: Array, v: Array) -> Array:
    with np.errstate(divide="ignore"):
        return oracle.softmax_jvp_by_complex_step(np.log(y.astype(np.float64)), v)


def softmax_like(map: str) -> list[Operation]:
    alpha = ALPHAS[map]
    of_alpha = functools.partial(functools.partial, alpha=alpha)
    vjp = Operation(
        map,
        "vjp",
        lambda y, v: (oracle.vjp(y, v, alpha=alpha),),
        of_alpha(bounds.product_tight),
        of_alpha(bounds.product_sound),
        mutants.PRODUCTS[map],
        derivative if alpha == 1 else None,
        terms=of_alpha(bounds.terms_of_product),
        tight_only=frozenset({"empty rows"}),
    )
    double_backward = Operation(
        map,
        "double-backward",
        of_alpha(oracle.double_backward),
        of_alpha(bounds.double_backward_tight),
        of_alpha(bounds.double_backward_sound),
        mutants.DOUBLE_BACKWARDS if alpha == 1 else {},
        terms=of_alpha(bounds.terms_of_both),
    )
    forward = Operation(
        map,
        "forward",
        lambda x: (oracle.softmax(x) if alpha == 1 else oracle.entmax(x, alpha),),
        bounds.softmax_tight if alpha == 1 else bounds.entmax_tight,
        bounds.softmax_sound if alpha == 1 else of_alpha(bounds.entmax_sound),
        mutants.SOFTMAXES if alpha == 1 else mutants.SPARSE,
        ulps=errors.normal_ulps if alpha == 1 else None,
    )
    return [forward, vjp, replace(vjp, what="jvp", same_as=vjp), double_backward]


# --- log_softmax ---------------------------------------------------------------------------------------


def representable(x: Array) -> Array:
    """log_softmax, and −inf where it is beyond the lowest number of x's dtype."""
    y = oracle.log_softmax(x)
    return np.where(-y > float(errors.info(x.dtype).max), -np.inf, y)


def log_derivative(y: Array, v: Array) -> Array:
    """∂log p = ∂p/p."""
    p = np.exp(y.astype(np.float64))
    return np.asarray(oracle.softmax_jvp_by_complex_step(y, v) / (p / p.sum(axis=-1, keepdims=True)))


# Where y is −inf softgrad says that nothing takes part, and the closed form dx = dy.
of_log_softmax = functools.partial(
    Operation, "log_softmax", absent=-np.inf, tight_only=frozenset({"masked entries", "empty rows"})
)
LOG_SOFTMAX = [
    of_log_softmax(
        "forward",
        lambda x: (representable(x),),
        bounds.log_softmax_tight,
        bounds.log_softmax_sound,
        mutants.LOG_SOFTMAXES,
        ulps=errors.ulps_above_1,
        leaves_out=frozenset({"sums to 1"}),
        tight_only=frozenset(),
    ),
    of_log_softmax(
        "vjp",
        lambda y, dy: (oracle.log_vjp(y, dy),),
        bounds.log_vjp_tight,
        bounds.log_vjp_sound,
        mutants.LOG_VJPS,
        log_derivative,
        terms=lambda y, dy, dx: (bounds.log_vjp_terms(y, dy, dx),),
        beside="|dx| + |dy| + p·Σ|dy|",
        leaves_out=frozenset({"constant gradient"}),
    ),
    of_log_softmax(
        "jvp",
        lambda y, dx: (oracle.log_jvp(y, dx),),
        bounds.log_jvp_tight,
        bounds.log_jvp_sound,
        mutants.LOG_JVPS,
        log_derivative,
        terms=lambda y, dx, dy: (bounds.log_jvp_terms(y, dy),),
        beside="|dy| + D",
        leaves_out=frozenset({"sums to 0"}),
    ),
    of_log_softmax(
        "double-backward",
        oracle.log_double_backward,
        bounds.log_double_backward_tight,
        bounds.log_double_backward_sound,
        terms=bounds.log_double_backward_terms,
        beside="p·Σ|dy|·(|v°| + D)",
    ),
]

# --- cross_entropy -------------------------------------------------------------------------------------

LOSSES = [
    Operation(
        map,
        "vjp",
        lambda x, t: (oracle.softmax(x) * t.astype(oracle.WIDE).sum(-1, keepdims=True) - t,),
        bounds.cross_entropy_sound,  # there is no level tight of it
        bounds.cross_entropy_sound,
        mutants.LOSSES,
        leaves_out=frozenset(
            ["average", "constant gradient", "any size", "broadcast gradient", "masked entries", "empty rows"]
            + ["NaN kept"] * (map == LABELS)
        ),
    )
    for map in ("cross_entropy", LABELS)
]

# --- the table -----------------------------------------------------------------------------------------

ROWS = [*softmax_like("softmax"), *LOG_SOFTMAX, *softmax_like("sparsemax"), *softmax_like("entmax"), *LOSSES]
NAMES = list(dict.fromkeys(row.base for row in ROWS))
ROWS += [
    replace(row, map=row.map + OF_LOGITS, sound=functools.partial(row.sound, logits=True), same_as=None)
    for row in ROWS
    if row.kind in ("vjp", "jvp", "double-backward")
]
OPERATIONS: dict[tuple[str, str], Operation] = {(row.map, row.what): row for row in ROWS}


def operation(map: str, what: What) -> Operation:
    if (map, what) not in OPERATIONS:
        known = ", ".join(f"{w!r} of {m!r}" for m, w in OPERATIONS if m in NAMES)
        raise ValueError(f"{what!r} of {map!r} is not tested: give one of {known}")
    return OPERATIONS[map, what]
