"""softgrad.torch beside PyTorch and the entmax package: forward and backward through autograd, on the CPU.

    python benchmarks/torch_grid.py [--quick]

All pairs run in turns in one loop; a ratio is that of the medians, below 1 where softgrad is faster.  Prints
a table and writes benchmarks/results/torch_grid.json.
"""

import functools
import itertools
import sys
from pathlib import Path

import torch
from entmax import entmax15
from entmax import sparsemax as their_sparsemax
from records import as_text

import softgrad.torch as st
from softgrad.bench.timing import interleaved, spread
from softgrad.commands.machine import environment

SHAPES = [(4, 4), (32, 512), (256, 512), (1000, 1000), (4096, 4096), (8, 128256), (50000, 64), (200000, 8)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAPS = {
    "softmax": (st.softmax, torch.softmax),
    "log_softmax": (st.log_softmax, torch.log_softmax),
}
ENTMAX = {
    "sparsemax": (st.sparsemax, their_sparsemax),
    "entmax": (lambda x, dim: st.entmax(x, 1.5, dim), entmax15),
}


def both_ways(function, x, dy, dim):
    return lambda: torch.autograd.grad(function(x, dim), x, dy)


def forward(function, x, dy, dim):
    return functools.partial(function, x.detach(), dim)


def backward(function, x, dy, dim):
    return functools.partial(torch.autograd.grad, function(x, dim), x, dy, retain_graph=True)


def measured(functions, ways, map, shape, dim, dtype, quick):
    """The cells of a map, in each of the ways to call it."""
    x, dy = (torch.randn(shape).to(DTYPES[dtype]) for _ in range(2))
    rounds = {"rounds": 3, "fewest": 3, "budget": 0.2} if quick else {"rounds": 31, "budget": 1.0}
    threads = torch.get_num_threads()
    # OpenMP's threads go on waiting busily for some milliseconds, which would slow down who comes next
    pause = 0.003 if threads > 1 else 0.0
    for what, way in ways.items():
        ours, theirs = (way(function, x.requires_grad_(), dy, dim) for function in functions)
        samples = interleaved({"ours": ours, "theirs": theirs}, pause=pause, **rounds)
        times = {name: spread(own).median for name, own in samples.items()}
        cell = {"map": map, "shape": shape, "dim": dim, "dtype": dtype, "threads": threads, "what": what}
        yield cell | times | {"ratio": times["ours"] / times["theirs"]}


def cells(quick):
    for number in (1,) if quick else (1, 2):
        torch.set_num_threads(number)
        for shape, dtype, dim in itertools.product(SHAPES[:3] if quick else SHAPES, DTYPES, (-1, 0)):
            for name, functions in MAPS.items():
                yield from measured(functions, {"both": both_ways}, name, shape, dim, dtype, quick)
        for name, functions in ENTMAX.items():
            ways = {"forward": forward, "backward": backward}
            yield from measured(functions, ways, name, (1024, 1024), -1, "float32", quick)


def main():
    quick = "--quick" in sys.argv
    found = []
    for cell in cells(quick):
        found.append(cell)
        shape = "×".join(map(str, cell["shape"]))
        print(
            f"{cell['map']:12} {cell['what']:8} {shape:12} dim {cell['dim']:2} {cell['dtype']:9} "
            f"{cell['threads']} thread(s) {cell['ours'] * 1e6:12.1f} µs  {cell['ratio']:6.2f}",
            flush=True,
        )
    if not quick:
        path = Path(__file__).parent / "results" / "torch_grid.json"
        path.write_text(as_text({"environment": environment("torch", "entmax"), "cells": found}))


if __name__ == "__main__":
    main()
