"""softgrad on Dask arrays whose rows are cut, beside rows made whole by a rechunk, and Dask's own formula.

    python benchmarks/dask_chunks.py [--gigabytes 1] [--rounds 5]

A float32 array is made on disk once and read by all; what comes out is dropped, block by block.  Each call
is a process of its own, in turns, so that the memory it took at most is known.  Prints a table and writes
benchmarks/results/dask_chunks.json.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from records import as_text

import softgrad
from softgrad.commands.machine import environment

# (rows, rows of a chunk, columns of a chunk): long rows in pieces, and tiles
LAYOUTS = {"pieces": (64, 64, 65536), "tiles": (16384, 2048, 2048)}
OPS = "softmax", "softmax_vjp"


def by_dask(x, dy=None):
    if dy is not None:
        return x * (dy - (x * dy).sum(axis=-1, keepdims=True))
    e = da.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def by_rechunk(x, dy=None):
    if dy is not None:
        x, dy = x.rechunk({-1: -1}), dy.rechunk({-1: -1})
        return da.map_blocks(softgrad.softmax_vjp, x, dy, dtype=x.dtype, meta=x._meta)
    return x.rechunk({-1: -1}).map_blocks(softgrad.softmax, dtype=x.dtype, meta=x._meta)


def by_softgrad(x, dy=None):
    return softgrad.softmax(x) if dy is None else softgrad.softmax_vjp(x, dy)


WAYS = {"softgrad": by_softgrad, "rechunk": by_rechunk, "dask": by_dask}


class Dropped:
    def __setitem__(self, place, block):
        pass


def memory():
    """The most that this process has held, in bytes; `ru_maxrss` would be that of the parent as well."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(peak.split()[1]) * 1024


def once(way, op, folder):
    """The seconds and bytes of one call, for the parent."""
    x, dy = (da.from_zarr(str(folder / name)) for name in ("y" if op.endswith("vjp") else "x", "dy"))
    arrays = (x, dy) if op.endswith("vjp") else (x,)
    small = [da.from_array(np.ones((2, 4), np.float32), chunks=(2, 2))] * len(arrays)
    WAYS[way](*small).compute()  # imports, kernels
    before = memory()
    start = time.perf_counter()
    da.store(WAYS[way](*arrays), Dropped(), lock=False)
    print(json.dumps({"seconds": time.perf_counter() - start, "bytes": memory() - before}))


def make(folder, layout, gigabytes):
    """x, its softmax and a dy on disk."""
    rows, high, wide = LAYOUTS[layout]
    columns = max(round(gigabytes * 1e9 / (4 * rows * wide)), 2) * wide
    x = da.random.default_rng(0).normal(size=(rows, columns), chunks=(high, wide)).astype(np.float32)
    for name, array in {"x": x * 3, "y": softgrad.softmax(x * 3), "dy": da.sin(9 * x)}.items():
        options = {"shape": x.shape, "chunks": (high, wide), "dtype": x.dtype, "compressors": None}
        da.store(array, zarr.create_array(str(folder / name), **options), lock=False)
    return x.shape, (high, wide)


def main(gigabytes, rounds):
    cells = []
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory() as place:
            shape, chunk = make(Path(place), layout, gigabytes)
            found = {key: [] for key in itertools.product(OPS, WAYS)}
            for _, (op, way) in itertools.product(range(rounds), found):
                command = [sys.executable, __file__, "--once", way, op, place]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[op, way].append(json.loads(done.stdout))
        for (op, way), runs in found.items():
            median = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "bytes")}
            cells.append({"layout": layout, "shape": shape, "chunk": chunk, "op": op, "way": way, **median})
            print(
                f"{layout:8} {op:12} {way:9} {median['seconds']:7.2f} s {median['bytes'] / 1e9:7.2f} GB",
                flush=True,
            )
    result = {"environment": environment("dask", "zarr", "numpy", "numba"), "rounds": rounds, "cells": cells}
    (Path(__file__).parent / "results" / "dask_chunks.json").write_text(as_text(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        once(*args.once[:2], Path(args.once[2]))
    else:
        main(args.gigabytes, args.rounds)
