"""The family: every map, and which kernels compute it.

A map takes logits x to weights y along an axis.  Under its name are the public functions ``<name>``,
``<name>_vjp``, ``<name>_jvp``, ``<name>_double_backward`` and ``<name>_with_vjp``, and a layer.  Those who
work for all maps (the calls, the tests, the benchmarks) read this table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Map:
    """One map: a row of the table.  Kernels are named as in `softgrad.kernels.cpu.library`."""

    name: str
    layer: str
    forward: str
    vjp: str
    jvp: str
    double_backward: str
    row_tile: int | None = None  # bytes of a tile of rows that its vjp turns, at most (see layout.py)
    alpha: float | None = None  # of the weights s = y^(2−α) (see kernels/cpu/weights.py); None is softmax, 1


SOFTMAX = Map(
    name="softmax",
    layer="Softmax",
    forward="softmax",
    vjp="vjp",
    jvp="vjp",
    double_backward="double_backward",
)

LOG_SOFTMAX = Map(
    name="log_softmax",
    layer="LogSoftmax",
    forward="log_softmax",
    vjp="log_vjp",
    jvp="log_jvp",
    double_backward="log_double_backward",
    row_tile=16384,
)

MAPS = {row.name: row for row in [SOFTMAX, LOG_SOFTMAX]}


@dataclass(frozen=True, slots=True)
class Reduction:
    """A function of logits that gives one number for each row: ``<name>``, ``_vjp`` and ``_with_vjp``."""

    name: str
    of_entropy: bool  # or else of the sum of exponentials (see kernels/cpu/reductions.py)
    of_nothing: float  # what an axis of length 0 gives


LOGSUMEXP = Reduction(name="logsumexp", of_entropy=False, of_nothing=-math.inf)
ENTROPY = Reduction(name="entropy", of_entropy=True, of_nothing=0.0)

REDUCTIONS = {row.name: row for row in [LOGSUMEXP, ENTROPY]}
