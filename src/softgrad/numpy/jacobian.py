"""What the Jacobian J = diag(p) − p pᵀ/⟨p,1⟩ gives in closed form, in float64, along the last axis.

Of the products, p is (…, n), or (…, 1, n) for several rows of v; v is (…, n) or (…, k, n), and is where the
result goes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import Array
from ..cpu import call
from ..specs import SOFTMAX
from . import maps


def times(p: Array, v: Array) -> Array:
    """J v = p ∘ (v − ⟨p,v⟩/⟨p,1⟩); for arrays of any dtype."""
    return maps.vjp(SOFTMAX, np.broadcast_to(p, v.shape), v, axis=-1, where=None, scale=1.0, out=v)


def root_times(p: Array, v: Array) -> Array:
    """√p ∘ (v − √p ⟨√p,v⟩/⟨p,1⟩) = J (v/√p).  To round v/√p is to round v."""
    root = np.sqrt(p)
    return times(p, np.divide(v, root, out=v, where=root != 0))


def transposed_root_times(p: Array, v: Array) -> Array:
    """√p ∘ (v − ⟨p,v⟩/⟨p,1⟩) = (J v)/√p."""
    root = np.sqrt(p)
    return np.divide(times(p, v), root, out=v, where=root != 0)


def solve(p: Array, b: Array) -> Array:
    """(b − mean b)/p less its mean, both means over p ≠ 0: 1 − 1 1ᵀ/⟨1,1⟩ is the J of weights 1."""
    there = p != 0
    weights = there.astype(p.dtype)
    return times(weights, np.divide(times(weights, b), p, out=b, where=there))


def total(p: Array) -> Any:
    """Σp, for p ≥ 0, to the last bit but one.

    p is cut at 2⁻²⁶ of its largest: the upper parts are multiples of one unit, whose sum is exact.
    """
    cut = p.max(axis=-1, keepdims=True, initial=0) * (1.5 * 2.0**26)
    upper = (p + cut) - cut
    return upper.sum(axis=-1) + (p - upper).sum(axis=-1)


def diagonal(p: Array) -> Array:
    """p_i·(Σp − p_i)/Σp.  For the largest, the difference is the sum of the others: nothing cancels."""
    if p.size == 0:
        return p
    top = p.argmax(axis=-1, keepdims=True)
    others = p.copy()
    np.put_along_axis(others, top, 0.0, axis=-1)
    rest = total(others)[..., None]
    whole = rest + np.take_along_axis(p, top, axis=-1)
    np.subtract(whole, p, out=others)
    np.put_along_axis(others, top, rest, axis=-1)
    np.divide(others, whole, out=others, where=whole != 0)
    others *= p
    return others


LIFT = 2.0**500  # times this no float64 but 0 is so small that its inverse is out of range


def eigenvalues(p: Array) -> Array:
    """Those of J, ascending: O(n²) steps for each row, which threads share, and memory O(n)."""
    p = np.multiply(p, LIFT, order="C")
    p.sort(axis=-1)  # NaN comes last
    found = np.zeros_like(p)
    if p.size and p.shape[-1] > 1:
        call.eigenvalues(p, found)
        found[~np.isfinite(p[..., -1])] = np.nan
    found /= LIFT
    return found
