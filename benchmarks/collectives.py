"""What all_reduce and all_gather of gloo take between 2 and 4 processes here, and lines through that.

    python benchmarks/collectives.py

T(S) = α + S/β in bytes S that a process gives: α is what a collective takes however little is sent, β the
bytes a second.  Writes benchmarks/results/collectives.json, of which scale.py makes a model, and readme.py
the tables and the picture of docs/distributed.md.
"""

import json
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from records import as_text

from softgrad.commands.machine import environment

GROUPS = 2, 4
# bytes that each process gives
SIZES = [64, 1024, 16384, 1 << 18, 1 << 20, 1 << 22]


def all_reduce(given, world):
    held = given.clone()
    return lambda: dist.all_reduce(held)


def all_gather(given, world):
    held = torch.empty(world * given.numel(), dtype=given.dtype)
    return lambda: dist.all_gather_single(held, given)


OPS = {"all_reduce": all_reduce, "all_gather": all_gather}


def work(rank, world, store, results):
    """One process.  Of a round the slowest process counts, and of the rounds the first quartile: later
    ones tell of other work on the machine."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, world),
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=120),
    )
    try:
        calls = {
            (op, size): make(torch.zeros(size // 8, dtype=torch.float64), world)
            for op, make in OPS.items()
            for size in SIZES
        }
        samples = {key: [] for key in calls}
        for _ in range(60):  # in turns, so that what else the machine does falls on all
            for key, call in calls.items():
                dist.barrier()
                start = time.perf_counter()
                call()
                samples[key].append(time.perf_counter() - start)
        table = torch.tensor(list(samples.values()), dtype=torch.float64)
        dist.all_reduce(table, op=dist.ReduceOp.MAX)
        quartiles = table[:, 5:].quantile(0.25, dim=1)
        if rank == 0:
            cells = [
                {"op": op, "processes": world, "bytes": size, "seconds": seconds}
                for (op, size), seconds in zip(samples, quartiles.tolist(), strict=True)
            ]
            Path(results).write_text(json.dumps(cells))
    finally:
        dist.destroy_process_group()


def fitted(cells):
    """α and β of each, by least squares of the relative errors."""
    lines = []
    for op in OPS:
        for world in GROUPS:
            own = [c for c in cells if (c["op"], c["processes"]) == (op, world)]
            size, seconds = (np.array([c[key] for c in own]) for key in ("bytes", "seconds"))
            system = np.stack([1 / seconds, size / seconds], axis=1)
            (alpha, slope), *_ = np.linalg.lstsq(system, np.ones(len(own)), rcond=None)
            off = np.abs((alpha + size * slope) / seconds - 1).max()
            line = {"op": op, "processes": world, "alpha": alpha, "beta": 1 / slope, "off": off}
            lines.append({key: float(f"{v:.3g}") if isinstance(v, float) else v for key, v in line.items()})
    return lines


def main():
    cells = []
    for world in GROUPS:
        with tempfile.TemporaryDirectory() as folder:
            store, results = os.path.join(folder, "store"), os.path.join(folder, "results")
            torch.multiprocessing.spawn(work, (world, store, results), nprocs=world)
            cells += json.loads(Path(results).read_text())
    lines = fitted(cells)
    result = {"environment": environment("torch"), "cells": cells, "lines": lines}
    for line in lines:
        print(
            f"{line['op']:10} {line['processes']} processes: {line['alpha'] * 1e6:6.0f} µs + bytes / "
            f"{line['beta'] / 1e9:.2f} GB/s, off by up to {line['off']:.0%}"
        )
    (Path(__file__).parent / "results" / "collectives.json").write_text(as_text(result))


if __name__ == "__main__":
    sys.exit(main())
