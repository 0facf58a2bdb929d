"""softgrad.torch beside PyTorch and the entmax package: forward and backward through autograd, on the CPU.

    python benchmarks/torch_grid.py [--quick]

All pairs run in turns in one loop; a ratio is that of the medians, below 1 where softgrad is faster.  Prints
a table and writes benchmarks/results/torch_grid.json.
"""

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
MAPS = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
ENTMAX = {
    "sparsemax": (st.sparsemax, their_sparsemax),
    "entmax": (lambda x, dim: st.entmax(x, 1.5, dim), entmax15),
}


def both_ways(function, x, dy, dim):
    def call():
        y = function(x, dim)
        return torch.autograd.grad(y, x, dy)

    return call


def forward(function, x, dim):
    def call():
        with torch.no_grad():
            return function(x, dim)

    return call


def backward(function, x, dy, dim):
    y = function(x, dim)

    def call():
        return torch.autograd.grad(y, x, dy, retain_graph=True)

    return call


def pair(ours, theirs, quick):
    options = {"rounds": 3, "fewest": 3, "budget": 0.2} if quick else {"rounds": 31, "budget": 1.0}
    # OpenMP's threads go on waiting busily for some milliseconds, which would slow down who comes next
    pause = 0.003 if torch.get_num_threads() > 1 else 0.0
    samples = interleaved({"ours": ours, "theirs": theirs}, pause=pause, **options)
    found = {name: spread(of_one).median for name, of_one in samples.items()}
    return found | {"ratio": found["ours"] / found["theirs"]}


def cells(quick):
    shapes = SHAPES[:3] if quick else SHAPES
    for number in (1,) if quick else (1, 2):
        torch.set_num_threads(number)
        for shape in shapes:
            for dtype in DTYPES:
                x = torch.randn(shape).to(DTYPES[dtype]).requires_grad_()
                dy = torch.randn(shape).to(DTYPES[dtype])
                for dim in (-1, 0):
                    for name, theirs in MAPS.items():
                        calls = [both_ways(f, x, dy, dim) for f in (getattr(st, name), theirs)]
                        cell = {"map": name, "shape": shape, "dim": dim, "dtype": dtype, "threads": number}
                        yield cell | {"what": "both"} | pair(*calls, quick)
        for name, functions in ENTMAX.items():
            x, dy = torch.randn(1024, 1024).requires_grad_(), torch.randn(1024, 1024)
            cell = {"map": name, "shape": (1024, 1024), "dim": -1, "dtype": "float32", "threads": number}
            for what, make in (("forward", forward), ("backward", backward)):
                more = (x, -1) if what == "forward" else (x, dy, -1)
                calls = [make(f, *more) for f in functions]
                yield cell | {"what": what} | pair(*calls, quick)


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
