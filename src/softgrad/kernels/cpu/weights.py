"""The weights s(y) of the simplex maps: all that their derivatives differ in.

Each has the Jacobian J = diag(s) − s sᵀ/⟨s,1⟩ with s = y^(2−α) where y > 0.  The kernels are given the
map's α, whose Numba type says which: None is α = 1, softmax, for which s = y; a whole number is α = 2,
sparsemax, for which s is 1; a float is any other.
"""

from numba.core import types

from .compiling import inline, per_type
from .real_power import raised
from .vec import as_type_of, double, fma, root, select

# Beyond α = 2 the smallest y weigh most.  Where one weighs this much more than 1 it holds its row's mean
# in place whatever it weighs, and its own derivative is what the others' add up to.
HEAVIEST = {types.float32: 2.0**100, types.float64: 2.0**500}


def weight(alpha, y):
    """s(y), for a Vec of the map's results, in their type."""
    raise NotImplementedError("compiled only")


@per_type(weight)
def compile_weight(alpha, y):
    if isinstance(alpha, types.NoneType):
        return lambda alpha, y: y
    if isinstance(alpha, types.Integer):
        return lambda alpha, y: select(y > 0.0, 1.0, y * 0.0)
    heaviest = HEAVIEST[y.dtype]

    def of_any(alpha, y):
        s = root(y) if alpha == 1.5 else as_type_of(general(alpha, as_type_of(y, double())), y)
        return select(y > 0.0, select(s > heaviest, heaviest, s), y * 0.0)

    return of_any


@inline
def general(alpha, y):
    """y^(2−α) for y > 0, in float64."""
    s = raised(y, double(), abs(2.0 - alpha), 0.0)
    return 1.0 / s if alpha > 2.0 else s


def lost(alpha, y, w):
    """s(y) − w for the weights w = s(y) as they were rounded; 0 for those that are not, or where w is 0."""
    raise NotImplementedError("compiled only")


@per_type(lost)
def compile_lost(alpha, y, w):
    if not isinstance(alpha, types.Float):
        return lambda alpha, y, w: w * 0.0
    heaviest = HEAVIEST[y.dtype]

    def of_any(alpha, y, w):
        if alpha == 1.5:  # y = (w + rest)² ≈ w² + 2w·rest
            rest = fma(w * -1.0, w, y) * 0.5 / w
        else:  # in float64 there is nothing better, and this is 0
            rest = as_type_of(general(alpha, as_type_of(y, double())) - as_type_of(w, double()), y)
        return select((w == 0.0) | (w == heaviest), 0.0, rest)

    return of_any


def slope(alpha, y, s):
    """ds/dy = (2−α)·y^(1−α), given the weights s."""
    raise NotImplementedError("compiled only")


@per_type(slope)
def compile_slope(alpha, y, s):
    if isinstance(alpha, types.Integer):
        return lambda alpha, y, s: 0.0
    return lambda alpha, y, s: select(s == 0.0, 0.0, (2.0 - alpha) * s / y)
