"""softgrad.jax beside jax.nn and the sort-based formulas, under jit, on one thread of one processor.

    python benchmarks/jax_grid.py [--quick]

All pairs run in turns in one loop; a ratio is that of the medians, above 1 where softgrad is faster.  Results
are fresh memory, as XLA gives it.  Prints a table and writes benchmarks/results/jax_grid.json.
"""

import itertools
import os
import sys
from pathlib import Path

# before XLA starts
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from records import as_text

import softgrad.jax as sj
from softgrad.bench.timing import interleaved, spread
from softgrad.commands.machine import environment

SHAPES = [(32, 512), (1000, 1000), (4096, 4096), (200000, 8)]
DTYPES = "float32", "bfloat16"


def by_sorting(x):
    """sparsemax: the support are the k largest for which 1 + k·x₍k₎ > their sum."""
    descending = -jnp.sort(-x, axis=-1)
    k = jnp.arange(1, x.shape[-1] + 1)
    sums = jnp.cumsum(descending, axis=-1) - 1
    size = jnp.sum(descending * k > sums, axis=-1, keepdims=True)
    return jnp.maximum(x - jnp.take_along_axis(sums, size - 1, axis=-1) / size, 0)


def entmax_by_sorting(x):
    """α = 1.5: τ of the k largest halves solves Σ (x₍i₎/2 − τ)² = 1, for the largest k with τ ≤ x₍k₎/2."""
    half = (x - jnp.max(x, axis=-1, keepdims=True)) / 2
    descending = -jnp.sort(-half, axis=-1)
    k = jnp.arange(1, x.shape[-1] + 1)
    mean = jnp.cumsum(descending, axis=-1) / k
    spread_of = k * (jnp.cumsum(descending**2, axis=-1) / k - mean**2)
    taus = mean - jnp.sqrt(jnp.maximum((1 - spread_of) / k, 0))
    size = jnp.sum(taus <= descending, axis=-1, keepdims=True)
    return jnp.maximum(half - jnp.take_along_axis(taus, size - 1, axis=-1), 0) ** 2


MAPS = {"softmax": (sj.softmax, jax.nn.softmax), "log_softmax": (sj.log_softmax, jax.nn.log_softmax)}
SPARSE = {"sparsemax": (sj.sparsemax, by_sorting), "entmax": (sj.entmax, entmax_by_sorting)}


def forward(function):
    return jax.jit(lambda x, dy: function(x))


def both_ways(function):
    return jax.jit(lambda x, dy: jax.vjp(function, x)[1](dy)[0])


def timed(function, *arrays):
    return lambda: jax.block_until_ready(function(*arrays))


def cells(quick):
    cases = list(itertools.product(SHAPES[:2] if quick else SHAPES, DTYPES, MAPS.items()))
    cases += itertools.product([(1024, 1024)], DTYPES[:1], SPARSE.items())
    rounds = {"rounds": 3, "fewest": 3, "budget": 0.2} if quick else {"rounds": 31, "budget": 2.0}
    for (shape, dtype, (name, functions)), way in itertools.product(cases, (forward, both_ways)):
        numbers = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
        x, dy = (jnp.asarray(a).astype(dtype) for a in numbers)
        calls = {who: timed(way(f), x, dy) for who, f in zip(("ours", "theirs"), functions, strict=True)}
        times = {who: spread(own).median for who, own in interleaved(calls, **rounds).items()}
        cell = {"map": name, "shape": shape, "dtype": dtype, "what": way.__name__}
        yield cell | times | {"ratio": times["theirs"] / times["ours"]}


def main():
    quick = "--quick" in sys.argv
    found = []
    for cell in cells(quick):
        found.append(cell)
        shape = "×".join(map(str, cell["shape"]))
        print(
            f"{cell['map']:12} {cell['what']:9} {shape:12} {cell['dtype']:9} "
            f"{cell['ours'] * 1e6:12.1f} µs  {cell['ratio']:6.2f}",
            flush=True,
        )
    if not quick:
        path = Path(__file__).parent / "results" / "jax_grid.json"
        path.write_text(as_text({"environment": environment("jax"), "cells": found}))


if __name__ == "__main__":
    main()
