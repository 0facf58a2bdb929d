"""The table of maps: every map, and which kernels compute it.

A map takes logits x to weights y along an axis.  Under its name are the public functions ``<name>``,
``<name>_vjp``, ``<name>_jvp``, ``<name>_double_backward`` and ``<name>_with_vjp``, and a layer.  Those who
work for all maps (the calls, the tests, the benchmarks) read this table.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["vjp", "jvp"]  # the products with a Jacobian


@dataclass(frozen=True, slots=True)
class Map:
    """One map: a row of the table.  Kernels are named as in `cpu.kernels`."""

    name: str
    layer: str
    forward: str
    vjp: str
    jvp: str
    double_backward: str
    alpha: float | None = None
    parameters: tuple[str, ...] = ()  # what the functions take besides the options of all
    absent: float = 0.0  # what y is where there is nothing: masked, −inf, or all of an empty row

    @property
    def more(self) -> tuple[float, ...]:
        """What its kernels take beside the numbers of all."""
        return () if self.alpha is None else (float(self.alpha),)


def kernels(of: str, jvp: str = "vjp") -> tuple[str, str, str, str]:
    """The four of a map; most have a symmetric J and one kernel for both products."""
    return of, f"{of}_vjp", f"{of}_{jvp}", f"{of}_double_backward"


SOFTMAX = Map("softmax", "Softmax", *kernels("softmax"))
LOG_SOFTMAX = Map("log_softmax", "LogSoftmax", *kernels("log_softmax", "jvp"), absent=-math.inf)
SPARSEMAX = Map("sparsemax", "Sparsemax", *kernels("entmax"), alpha=2)


@functools.lru_cache(maxsize=256)
def entmax(alpha: float = 1.5) -> Map:
    """The row of entmax for one alpha; for 1 and 2 that is softmax and sparsemax."""
    if alpha in (1.0, 2.0):
        return SOFTMAX if alpha == 1.0 else SPARSEMAX
    return Map("entmax", "Entmax", *kernels("entmax"), alpha=alpha, parameters=("alpha",))


MAPS = {row.name: row for row in [SOFTMAX, LOG_SOFTMAX, SPARSEMAX, entmax()]}


@dataclass(frozen=True, slots=True)
class Reduction:
    """A function of logits that gives one number for each row: ``<name>``, ``_vjp`` and ``_with_vjp``."""

    name: str
    of_entropy: bool  # or else of the sum of exponentials (see cpu/reductions.py)
    of_nothing: float  # what an axis of length 0 gives


LOGSUMEXP = Reduction(name="logsumexp", of_entropy=False, of_nothing=-math.inf)
ENTROPY = Reduction(name="entropy", of_entropy=True, of_nothing=0.0)

REDUCTIONS = {row.name: row for row in [LOGSUMEXP, ENTROPY]}


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence between softmax(x) and a target, one number for each row."""

    name: str
    kind: int  # as in cpu/divergences.py


KL = Divergence("kl_divergence", 0)  # KL(target‖softmax)
REVERSE_KL = Divergence("kl_divergence", 1)
JS = Divergence("js_divergence", 2)

DIRECTIONS = {"forward": KL, "reverse": REVERSE_KL}
