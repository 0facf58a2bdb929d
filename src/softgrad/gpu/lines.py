"""Tensors of one shape seen as (outer, inner) lines along the last dim: the sizes and steps that the kernels
are given."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

Steps = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Lines:
    outer: int
    inner: int
    n: int
    steps: tuple[Steps, ...]  # of each tensor: from one outer index, inner index and element to the next
    across: bool  # whether neighbours in memory lie on neighbouring lines
    vec: int  # so many elements lie side by side, aligned to as many, in every tensor


@functools.lru_cache(maxsize=1024)
def lines(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> Lines | None:
    """None where the other dims can't be walked as two: then a copy has to be made."""
    # dims that lie one within the other in every tensor are one: [size, stride of each tensor]
    groups: list[list[int]] = []
    others = [d for d in range(len(shape) - 1) if shape[d] != 1]
    for d in sorted(others, key=lambda d: tuple(-s[d] for s in strides)):
        step = [s[d] for s in strides]
        if groups and all(a == b * shape[d] for a, b in zip(groups[-1][1:], step, strict=True)):
            groups[-1] = [groups[-1][0] * shape[d], *step]
        else:
            groups.append([shape[d], *step])
    if len(groups) > 2:
        return None
    along = [s[-1] for s in strides]
    nothing = [1] + [0] * len(strides)
    if len(groups) == 1 and along[0] != 1:
        groups.insert(0, nothing)
    groups += [nothing] * (2 - len(groups))
    (outer, *outer_steps), (inner, *inner_steps) = groups
    n = shape[-1]
    across = n > 1 and along[0] != 1 and inner_steps[0] == 1
    aligned = [inner, *outer_steps, *along] if across else [n, *outer_steps, *inner_steps]
    steps = tuple(zip(outer_steps, inner_steps, along, strict=True))
    return Lines(outer, inner, n, steps, across, math.gcd(16, *aligned))
