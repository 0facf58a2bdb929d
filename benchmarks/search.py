"""Search for rows on which softmax_vjp is far off, from a new seed each time.

    python benchmarks/search.py 5                 for five minutes, half of them in each dtype
    python benchmarks/search.py 1 --seed 1764234  the rows of an earlier run again

Prints the worst row of each dtype, in eps·(|dx*| + y·D), beside the contract's C.  tests/test_search.py runs
the same for a few seconds with fixed seeds.
"""

import argparse
import sys
import time

import numpy as np

from softgrad import softmax_vjp
from softgrad.testing import errors
from softgrad.testing.search import Found, search


def worst_of(dtype: np.dtype, seed: int, seconds: float) -> tuple[int, Found]:
    """How many rounds there was time for, and the worst row of all."""
    end = time.monotonic() + seconds
    worst = None
    for rounds, found in enumerate(search(softmax_vjp, dtype, seed), 1):
        if worst is None or found.error > worst.error:
            worst = found
        if time.monotonic() > end:
            return rounds, worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float, nargs="?", default=2.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="without it the clock's")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    beyond = False
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        rounds, worst = worst_of(dtype, options.seed, options.minutes * 30)
        due = errors.product_bound(dtype)
        beyond |= worst.error > due
        print(f"{dtype}: C = {worst.error:.2f} of {due} in {rounds} rounds: {worst}")
    sys.exit(int(beyond))


if __name__ == "__main__":
    main()
