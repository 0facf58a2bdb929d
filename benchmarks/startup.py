"""Measurements in a fresh process: the time of the import and of the first call, the memory of a call."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import softgrad

IMPORT = """
import time, numpy
start = time.perf_counter()
import softgrad
print(time.perf_counter() - start)
"""

FIRST_CALL = """
import time, ml_dtypes, numba, numpy, softgrad
dtype = numpy.dtype({dtype!r} if {dtype!r} != "bfloat16" else ml_dtypes.bfloat16)
x = y = numpy.full({shape}, 0.5, dtype)
start = time.perf_counter()
softgrad.{op}(*(x,) if {op!r} == "softmax" else (y, x), axis={axis})
print(time.perf_counter() - start)
"""

# The system's peak memory of the process is reset before each call.  The first calls, on arrays of 1 MB, are
# not counted: they load the compiled code.
MEMORY = """
import json, numpy, softgrad

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

softgrad.set_num_threads(1)
for n in 256, 4096, 16384:
    if n <= 4096: records = []
    room, result = numpy.full((n, 1024), 0.001, numpy.float32), numpy.full((n, 1024), 0, numpy.float32)
    where = numpy.broadcast_to(numpy.arange(1024) % 2 == 0, room.shape)
    for layout, step, options in (
        ("rows", 1, {}), ("columns", 1, {"axis": 0}), ("strided", 2, {}), ("masked", 1, {"where": where})
    ):
        x, out = room[:, ::step], result[:, ::step]
        for op, given in (("softmax", (x,)), ("softmax_vjp", (x, x))):
            for into, more in (("out", {"out": out}), ("new", {})):
                open("/proc/self/clear_refs", "w").write("5")
                before = status("VmRSS")
                y = getattr(softgrad, op)(*given, **options, **more)
                grown = status("VmHWM") - before - (y.nbytes if into == "new" else 0)
                del y
                records.append({"op": op, "layout": layout, "shape": x.shape, "into": into, "grown": grown})
print(json.dumps(records))
"""

DTYPES = "float16", "bfloat16", "float32", "float64"
# (shape, axis, dtypes) of the first calls: rows, short rows, columns
FIRST = [((32, 512), -1, DTYPES), ((700, 37), -1, DTYPES[2:3]), ((64, 100), 0, DTYPES[2:3])]

Record = dict[str, Any]


def printed(code: str, **environment: str) -> Any:
    """The output of a new interpreter, read as JSON."""
    source = os.path.dirname(os.path.dirname(softgrad.__file__))
    variables = {**os.environ, "PYTHONPATH": source, **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def imports(options: argparse.Namespace) -> Iterator[Record]:
    seconds = statistics.median(printed(IMPORT) for _ in range(9))
    yield {"part": "import", "op": "import softgrad", "seconds": {"softgrad": seconds}}


def first_calls(options: argparse.Namespace) -> Iterator[Record]:
    """The first call with an empty cache, and (the median of three) with a full one."""
    for shape, axis, of_shape in FIRST:
        for dtype in (d for d in of_shape if d in options.dtypes):
            for op in ("softmax", "softmax_vjp"):
                code = FIRST_CALL.format(op=op, dtype=dtype, shape=shape, axis=axis)
                what = {"part": "first call", "op": op, "shape": list(shape), "axis": axis, "dtype": dtype}
                with tempfile.TemporaryDirectory() as folder:
                    cold = printed(code, NUMBA_CACHE_DIR=folder)
                    warm = statistics.median(printed(code, NUMBA_CACHE_DIR=folder) for _ in range(3))
                for cache, seconds in (("cold", cold), ("warm", warm)):
                    yield {**what, "cache": cache, "seconds": {"softgrad": seconds}}


def memory(options: argparse.Namespace) -> Iterator[Record]:
    """By how much a process grows in a call, beyond the result, in bytes."""
    whole = {"MALLOC_MMAP_THRESHOLD_": "131072"}  # freed memory goes back to the system
    printed(MEMORY, **whole)  # compiles
    for r in printed(MEMORY, **whole):
        yield {"part": "memory", "dtype": "float32", "axis": -1, **r}


def reproduce(options: argparse.Namespace) -> Iterator[Record]:
    """The times of `softgrad reproduce` at its defaults."""
    code = 'from softgrad.cli import app; app(["reproduce", "--json", "-"])'
    ways = {way["name"]: way["seconds"]["median"] for way in printed(code)["ways"]}
    names = {"softgrad": "softgrad.softmax_vjp", "numpy": "closed form, NumPy", "torch": "PyTorch autograd"}
    seconds = {key: ways[name] for key, name in names.items() if name in ways}
    yield {"part": "reproduce", "op": "softgrad reproduce", "seconds": seconds}
