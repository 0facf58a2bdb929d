"""What comes before the first result: the import, and the first call, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import softgrad

IMPORT = """
import time
import numpy
start = time.perf_counter()
import softgrad
print(time.perf_counter() - start)
"""

FIRST_CALL = """
import time
start = time.perf_counter()
import ml_dtypes, numpy, softgrad
dtype = numpy.dtype({dtype!r} if {dtype!r} != "bfloat16" else ml_dtypes.bfloat16)
x, y = numpy.zeros({shape}, dtype), numpy.full({shape}, 0.5, dtype)
before = time.perf_counter()
softgrad.{operation}(*(x,) if {operation!r} == "softmax" else (y, x), axis={axis})
end = time.perf_counter()
print(end - before, end - start)
"""

# (operation, shape, axis) of which there is a kernel of its own: rows, turned rows, columns
WAYS = [
    (operation, shape, axis)
    for operation in ("softmax", "softmax_vjp")
    for shape, axis in (((32, 512), -1), ((700, 37), -1), ((64, 100), 0))
]
DTYPES = "float16", "bfloat16", "float32", "float64"


def seconds(code: str, **environment: str) -> list[float]:
    """The numbers that a new interpreter prints."""
    source = os.path.dirname(os.path.dirname(softgrad.__file__))
    variables = {**os.environ, "PYTHONPATH": source, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    return [float(number) for number in done.stdout.split()]


def import_seconds(repeats: int) -> list[float]:
    """How long `import softgrad` takes once NumPy is imported."""
    return [seconds(IMPORT)[0] for _ in range(repeats)]


def first_calls(quick: bool, tell: Callable[[str], None]) -> list[dict[str, object]]:
    """The first call with an empty cache folder, and (the median of three) with what that left there."""
    records: list[dict[str, object]] = []
    for operation, shape, axis in WAYS[::3] if quick else WAYS:
        for dtype in DTYPES[2:3] if quick else DTYPES:
            tell(f"first call of {operation}, {dtype}, {shape}, axis {axis}")
            code = FIRST_CALL.format(operation=operation, dtype=dtype, shape=shape, axis=axis)
            with tempfile.TemporaryDirectory() as folder:
                cold = seconds(code, NUMBA_CACHE_DIR=folder)
                warm = sorted(seconds(code, NUMBA_CACHE_DIR=folder) for _ in range(3))[1]
            for name, (call, total) in (("cold", cold), ("warm", warm)):
                records.append(
                    {
                        "op": f"first {operation}",
                        "shape": shape,
                        "axis": axis,
                        "dtype": dtype,
                        "cache": name,
                        "seconds": {"median": call},
                        "seconds_with_imports": {"median": total},
                    }
                )
    return records
