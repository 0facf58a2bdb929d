"""How many of the hard cases of softgrad.testing.cases each library gets right, and how far off the worst is.

A case is a row: logits × gradient × n × dtype.  softmax is compared with the exact value for the x given
and counts as missed beyond 2 ulp (float16, bfloat16: 0.51); the vjp with the exact one for the y and dy
given, and missed where an element is off by more than the contract allows, C·eps·(|dx*| + y·D).
`python benchmarks/accuracy.py` writes results/accuracy.json.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from records import as_text

from softgrad.commands import machine
from softgrad.commands.progress import Bar
from softgrad.testing import cases, errors
from softgrad.verify import load, peers

HERE = Path(__file__).parent

LIBRARIES = "softgrad", "numpy", "scipy", "torch", "jax"
LENGTHS = cases.SHORT + cases.MEDIUM + cases.LONG


def forward_errors(y: np.ndarray, n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The error of each row in ulp, and which are missed."""
    y = y.astype(dtype)
    ulps = errors.ulps(y, cases.exact_softmax(n, dtype))
    missed = ulps.max(axis=-1) > errors.forward_bound(dtype)
    # where y is finite and `ulps` is not, y should be below the normal numbers: missed, but not by ulps
    return np.where(np.isfinite(y.astype(float)) & ~np.isfinite(ulps), 0, ulps).max(axis=-1), missed


def vjp_errors(dx: np.ndarray, n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The error of each row in eps·(|dx*| + y·D), NaN where dx* is 0 throughout; and which are missed."""
    y, exact = cases.weights(n, dtype), cases.exact_vjp(n, dtype)
    dx = dx.astype(dtype)
    sizes = np.where((exact == 0).all(axis=1), np.nan, errors.product_error(dx, y, exact))
    return sizes, errors.product_miss(dx, y, exact) > 1


ERRORS = {
    # the function: its name among the peers, errors and misses, their unit
    "softmax": ("forward", forward_errors, "ulp"),
    "softmax_vjp": ("vjp", vjp_errors, "eps·(|dx*| + y·D)"),
}


def arguments(what: str, n: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    if what == "forward":
        return (cases.logits(n, dtype),)
    return cases.weights(n, dtype), cases.gradients(n, dtype)


def record(operation: str, dtype: np.dtype, library: str, lengths: tuple[int, ...]) -> dict[str, Any]:
    what, errors_of, unit = ERRORS[operation]
    function = load(library, what=what)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows of the others
        results = [errors_of(function(*arguments(what, n, dtype)), n, dtype) for n in lengths]
    sizes, missed = (np.concatenate(parts) for parts in zip(*results, strict=True))
    worst = float(np.nanmax(sizes.astype(float)))
    return {
        "operation": operation,
        "dtype": dtype.name,
        "implementation": library,
        "cases": len(missed),
        "missed": int(missed.sum()),
        "worst": worst if np.isfinite(worst) else None,
        "unit": unit,
    }


def run(lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    functions = {library: peers.PEERS[library].functions for library in LIBRARIES}
    every = [
        (operation, dtype, library)
        for dtype in cases.DTYPES
        for operation in ERRORS
        for library in LIBRARIES
        if ("softmax", ERRORS[operation][0]) in functions[library]
    ]
    records = []
    with Bar(len(every)) as bar:
        for operation, dtype, library in every:
            bar.phase(f"{library}, {operation} {dtype.name}")
            records.append(record(operation, dtype, library, lengths))
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="rows of up to 1023 only")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "accuracy.json")
    options = parser.parse_args()
    records = run(cases.SHORT if options.quick else LENGTHS)
    environment = machine.environment("numpy", "numba", "scipy", "torch", "jax")
    result = {"environment": environment, "records": records}
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(as_text(result))
    for r in records:
        print(
            f"{r['operation']:12} {r['dtype']:9} {r['implementation']:9} "
            f"missed {r['missed']:4} of {r['cases']}, worst {r['worst']} {r['unit']}"
        )


if __name__ == "__main__":
    main()
