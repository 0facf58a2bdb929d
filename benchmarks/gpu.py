"""Check and time the softmax kernels on a GPU: python benchmarks/gpu.py [RESULTS.json]

Each shape fills the chip, or is one of few rows.  Inputs are rotated so that the second-level cache holds
none of them, and calls are replayed from a CUDA graph, so that small ones are not the time it takes to launch
them; what that takes from Python is a record of its own.  A result is timed only if it is right.  The limit
is a device copy of as many bytes, measured in the same run; QuACK and Liger are timed where they are
installed.  With a path the records are written there, in the form of `softgrad bench --json`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softgrad.bench.measure import spread
from softgrad.kernels import gpu
from softgrad.testing import measures, oracle

FILL = 1 << 28  # elements that fill the chip
LENGTHS = tuple(1 << k for k in range(5, 19))
FEW = tuple((rows, n) for rows in (1, 8, 64) for n in (8192, 32768, 262144))
TOUCHED = 1 << 29  # bytes that are touched before an input comes again: ten times what the cache holds
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
MOVED = {"softmax": 2, "softmax_vjp": 3}  # arrays
ALLOWED = {"bfloat16": {"softmax": 0.51, "softmax_vjp": 2}, "float32": {"softmax": 2, "softmax_vjp": 2}}
JUDGED = 8  # rows that are compared with the oracle
SAMPLES = 15

Given = tuple[torch.Tensor, ...]
Call = Callable[..., Any]


def inputs(rows: int, n: int, dtype: torch.dtype) -> list[Given]:
    """(x, y, dy, out), so many times that they don't fit into the cache."""
    times = min(64, 1 + TOUCHED // (4 * rows * n * dtype.itemsize))
    found = []
    for _ in range(times):
        x, dy = (torch.randn(rows, n, device="cuda", dtype=dtype) for _ in range(2))
        found.append((x, torch.softmax(x.float(), -1).to(dtype), dy, torch.empty_like(x)))
    return found


def seconds(call: Call, given: list[Given]) -> dict[str, float]:
    """Median and quartiles of the time of one call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for one in given:  # compiles, and warms up
            call(*one)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for one in given:
                call(*one)
        times = []
        for _ in range(SAMPLES):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) / 1e3 / len(given))
    found = spread(times)
    return {"median": found.median, "q1": found.q1, "q3": found.q3}


def of_x(function: Call) -> Call:
    return lambda x, y, dy, out: function(x)


def of_y(function: Call) -> Call:
    return lambda x, y, dy, out: function(dy, y)


def implementations() -> dict[str, dict[str, Call]]:
    """op: implementation: a call of (x, y, dy, out)."""
    backward = torch.ops.aten._softmax_backward_data

    def closed_form(x: Any, y: Any, dy: Any, out: Any) -> Any:
        return y * (dy - (y * dy).sum(-1, keepdim=True))

    found: dict[str, dict[str, Call]] = {
        "softmax": {
            "softgrad": lambda x, y, dy, out: gpu.softmax(x, out=out),
            "torch": lambda x, y, dy, out: torch.softmax(x, -1),
            "torch.compile": torch.compile(lambda x, y, dy, out: torch.softmax(x, -1)),
        },
        "softmax_vjp": {
            "softgrad": lambda x, y, dy, out: gpu.softmax_vjp(y, dy, out=out),
            "torch": lambda x, y, dy, out: backward(dy, y, -1, y.dtype),
            "torch.compile": torch.compile(closed_form),
        },
    }
    for name, module, forward, vjp in (
        ("quack", "quack.softmax", "softmax_fwd", "softmax_bwd"),
        ("liger", "liger_kernel.ops.softmax", "_softmax_forward", None),
    ):
        try:
            theirs = importlib.import_module(module)
        except ImportError:
            print(f"{name} is not installed: left out")
            continue
        found["softmax"][name] = of_x(getattr(theirs, forward))
        if vjp:
            found["softmax_vjp"][name] = of_y(getattr(theirs, vjp))
    return found


def error(op: str, given: Given, result: torch.Tensor) -> float:
    """The worst row's, in eps of its norm; of a forward in ulp."""
    x, y, dy, found = (t[:JUDGED].double().cpu().numpy() for t in (*given[:3], result))
    info = torch.finfo(result.dtype)
    if op == "softmax":
        exact = oracle.softmax(x)
        _, exponents = np.frexp(exact)
        ulps = np.abs(found - exact) / np.ldexp(oracle.WIDE(info.eps), exponents - 1)
        return float(np.where(exact >= info.tiny, ulps, 0).max())
    exact = oracle.vjp(y, dy)
    return float((measures.norm(found - exact) / measures.norm(exact)).max() / info.eps)


def launch() -> dict[str, float]:
    """What a call of a small shape takes in Python."""
    x = torch.randn(8, 64, device="cuda")
    out = torch.empty_like(x)
    times = []
    for _ in range(SAMPLES + 1):
        start = time.perf_counter()
        for _ in range(100):
            gpu.softmax(x, out=out)
        times.append((time.perf_counter() - start) / 100)
        torch.cuda.synchronize()
    found = spread(times[1:])
    return {"median": found.median, "q1": found.q1, "q3": found.q3}


def records() -> Iterator[dict[str, Any]]:
    calls = implementations()
    for dtype, kind in DTYPES.items():
        for rows, n in (*((FILL // n, n) for n in LENGTHS), *FEW):
            given = inputs(rows, n, kind)
            copy = seconds(lambda x, y, dy, out: out.copy_(x), given)
            for op, those in calls.items():
                limit = copy["median"] * MOVED[op] / 2
                for name, call in those.items():
                    record: dict[str, Any] = {"op": op, "shape": [rows, n], "axis": -1, "dtype": dtype}
                    record |= {"device": "cuda", "implementation": name, "seconds": None, "limit_ratio": None}
                    try:
                        result = call(*given[0])
                        result = result[0] if isinstance(result, tuple) else result
                        record["error_eps"] = error(op, given[0], result)
                        if name != "softgrad" or record["error_eps"] <= ALLOWED[dtype][op]:
                            record["seconds"] = seconds(call, given)
                            record["limit_ratio"] = limit / record["seconds"]["median"]
                    except Exception as failure:  # a peer may refuse a shape
                        record["left_out"] = f"{type(failure).__name__}: {failure}"[:200]
                    yield record
            del given


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device to measure.")
    found = []
    for record in records():
        ratio = record["limit_ratio"]
        told = "not timed" if ratio is None else f"{ratio:.2f} of the copy"
        rows, n = record["shape"]
        print(f"{record['op']:12} {rows:>8}×{n:<7} {record['dtype']:9} {record['implementation']:14} {told}")
        found.append(record)
    environment = {"processor": torch.cuda.get_device_name(), "torch": torch.__version__}
    content = {"environment": environment, "records": found, "launch": launch()}
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
