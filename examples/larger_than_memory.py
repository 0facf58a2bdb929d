"""The softmax of an array that is larger than memory, and its gradient: on disk, block by block.

    python examples/larger_than_memory.py [--gigabytes 0.25] [--folder DIR] [--seed 0]

The logits of a few rows, so long that a chunk holds a piece of each, are made on the fly and written to a
zarr array.  Then y = softmax(x) is written, and of L = ∑ (y − t)²/2, with a target t that is made on the
fly too, the gradient ∂L/∂x = softmax_vjp(y, y − t).  Memory holds a few chunks, whatever the size.

It prints how long it took, and the memory of the process; it compares sums of rows with what they must be,
and prints those of `map_blocks`, which takes each piece for a row.  The exit status is 0 if they agree.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from dask.diagnostics import ProgressBar

import softgrad

ROWS, PIECE = 64, 1 << 16  # of a chunk: 16 MB of float32
ENOUGH = 1e-6  # float32, and sums of many terms that are rounded one by one


def pieces(function, count, seed):
    """An array of which `function` makes each chunk, of random numbers of its own."""

    def block(block_info):
        place = block_info[None]["chunk-location"][1]
        return function(np.random.default_rng([seed, place]).standard_normal((ROWS, PIECE), np.float32))

    chunks = (ROWS,), (PIECE,) * count
    return da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32))


def logits(z):
    """Some rows are flat, in others few elements have all of the weight."""
    return z * np.linspace(0.1, 8, ROWS, dtype=np.float32)[:, None]


def written(array, path):
    """The array on disk, once it is there."""
    shape, chunks, dtype = array.shape, array.chunksize, array.dtype
    target = zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype, compressors=None)
    start = time.perf_counter()
    with ProgressBar():
        da.store(array, target, lock=False)
    taken, size = time.perf_counter() - start, array.nbytes / 1e9
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    print(f"{path.name}: {size:.3g} GB in {taken:.1f} s; most memory so far {memory:.2f} GB\n")
    return da.from_zarr(target)


def sums(array):
    """Of each row, in float64."""
    return array.sum(axis=-1, dtype=np.float64)


def main(gigabytes, folder, seed):
    count = max(round(gigabytes * 1e9 / (4 * ROWS * PIECE)), 2)
    x = written(pieces(logits, count, seed), folder / "x.zarr")
    y = written(softgrad.softmax(x), folder / "y.zarr")
    target = pieces(lambda z: np.maximum(z, 0) / z.size, count, seed + 1)
    dy = y - target
    dx = written(softgrad.softmax_vjp(y, dy), folder / "dx.zarr")
    asked = y, y * dy, y * dy**2, dx, dx * dy, abs(dx), x.map_blocks(softgrad.softmax)
    with ProgressBar():
        of_y, mean, square, of_dx, product, size, apart = dask.compute(*map(sums, asked))
    # dx = y∘(dy − m), so that Σ dx = 0, and Σ dx·dy = Σ y·dy² − m²
    off = max(
        np.abs(of_y - 1).max(),
        (np.abs(of_dx) / size).max(),
        (np.abs(product - (square - mean**2)) / square).max(),
    )
    print(f"sums of rows are off by {off:.1e}; by map_blocks those of y are {apart.max():.0f}, and not 1")
    return 0 if off <= ENOUGH else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=0.25, help="the size of x; y and dx have the same")
    parser.add_argument("--folder", type=Path, help="where to write them (a temporary folder)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        sys.exit(main(args.gigabytes, Path(place), args.seed))
