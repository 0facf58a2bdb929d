"""`softgrad.cpu.contiguous` for tensors: a kernel on addresses, called in a third of a microsecond.

In a file of its own since Numba is not loaded before a kernel runs.
"""

from __future__ import annotations

import functools
from typing import Any

from numba import boolean, float64, int64, njit

from ..cpu import kernels
from ..cpu.contiguous import done


def by_address(
    a: int, b: int, c: int, outer: int, n: int, inner: int, item: int, scale: float, table: int
) -> Any:
    """Rows of n at addresses a, b and c (0 where there are two arrays); whether the kernel could do it."""
    return done((outer, n, inner), 1, item, a, b, c, scale, item < 8, table)


@functools.cache
def compiled() -> Any:
    return kernels.kept_on_disk(njit, by_address, [boolean(*[int64] * 7, float64, int64)])
