"""The weights s(y) of the simplex maps: all that their derivatives differ in.

Each has the Jacobian J = diag(s) − s sᵀ/⟨s,1⟩ with s = y^(2−α) where y > 0.  The kernels are given the
map's α as a Numba type: None is α = 1, softmax, for which s = y.
"""

from numba.core import types

from .compiling import per_type


def weight(alpha, y):
    """s(y), for a Vec of the map's results."""
    raise NotImplementedError("compiled only")


@per_type(weight)
def compile_weight(alpha, y):
    if isinstance(alpha, types.NoneType):
        return lambda alpha, y: y
    return None
