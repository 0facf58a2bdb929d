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
from softgrad.testing import cases, measures
from softgrad.verify import load, peers

HERE = Path(__file__).parent

LIBRARIES = "softgrad", "numpy", "scipy", "torch", "jax"
LENGTHS = cases.SHORT + cases.MEDIUM + cases.LONG


def forward_errors(y: np.ndarray, n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The error of each row in ulp, and which are missed."""
    y = y.astype(dtype)
    ulps = measures.ulps(y, cases.exact_softmax(n, dtype))
    missed = ulps.max(axis=-1) > measures.forward_bound(dtype)
    # where y is finite and `ulps` is not, y should be below the normal numbers: missed, but not by ulps
    return np.where(np.isfinite(y.astype(float)) & ~np.isfinite(ulps), 0, ulps).max(axis=-1), missed


def vjp_errors(dx: np.ndarray, n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The error of each row in eps·(|dx*| + y·D), NaN where dx* is 0 throughout; and which are missed."""
    y, exact = cases.weights(n, dtype), cases.exact_vjp(n, dtype)
    dx = dx.astype(dtype)
    errors = measures.product_error(dx, y, exact)
    return np.where((exact == 0).all(axis=1), np.nan, errors), measures.product_miss(dx, y, exact) > 1


def result_of(library: str, operation: str, n: int, dtype: np.dtype) -> np.ndarray | None:
    """What a library gives; None where it has no such function."""
    what = "forward" if operation == "softmax" else "vjp"
    if ("softmax", what) not in peers.PEERS[library].functions:
        return None
    function = load(library, what=what)
    if what == "forward":
        return function(cases.logits(n, dtype))
    return function(cases.weights(n, dtype), cases.gradients(n, dtype))


def run(lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    records = []
    operations = {"softmax": forward_errors, "softmax_vjp": vjp_errors}
    with Bar(len(cases.DTYPES) * len(lengths)) as bar:
        for dtype in cases.DTYPES:
            found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
            for n in lengths:
                bar.phase(f"{dtype.name}, n = {n}")
                for operation, errors_of in operations.items():
                    for library in LIBRARIES:
                        with warnings.catch_warnings():
                            warnings.simplefilter("ignore")  # overflows of the others
                            result = result_of(library, operation, n, dtype)
                        if result is not None:
                            found.setdefault((operation, library), []).append(errors_of(result, n, dtype))
            for (operation, library), results in found.items():
                errors = np.concatenate([error for error, _ in results]).astype(float)
                missed = np.concatenate([miss for _, miss in results])
                worst = float(np.nanmax(errors))
                records.append(
                    {
                        "operation": operation,
                        "dtype": dtype.name,
                        "implementation": library,
                        "cases": len(missed),
                        "missed": int(missed.sum()),
                        "worst": worst if np.isfinite(worst) else None,
                        "unit": "ulp" if operation == "softmax" else "eps·(|dx*| + y·D)",
                    }
                )
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
