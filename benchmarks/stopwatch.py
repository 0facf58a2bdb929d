"""Whether the times that `softgrad bench` writes are those that another stopwatch shows.

    softgrad bench --quick --json bench.json
    python benchmarks/stopwatch.py bench.json

The other stopwatch is Python's timeit, in a process of its own for each row of softgrad, NumPy and PyTorch
into a new array; each is told the same number of threads.  A row agrees if the best of timeit's five lies
within a quarter of the median that was written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NEAR = 1.25

ARRAYS = """
import ml_dtypes, numpy as np, softgrad
rng = np.random.default_rng(1)
x, dy = (rng.standard_normal({shape}, np.float32).astype("{dtype}") for _ in range(2))
y = softgrad.softmax(x, axis={axis})
"""
TENSORS = """
import torch
torch.set_num_threads({threads})
x, y, dy = map(torch.from_numpy, (x, y, dy))
"""
CALLS = {
    ("softgrad", "softmax"): "softgrad.softmax(x, axis={axis})",
    ("softgrad", "softmax_vjp"): "softgrad.softmax_vjp(y, dy, axis={axis})",
    ("numpy", "softmax"): (
        "e = np.exp(x - x.max(axis={axis}, keepdims=True)); e / e.sum(axis={axis}, keepdims=True)"
    ),
    ("numpy", "softmax_vjp"): "y * (dy - (dy * y).sum(axis={axis}, keepdims=True))",
    ("torch", "softmax"): "torch.softmax(x, {axis})",
    ("torch", "softmax_vjp"): "torch._softmax_backward_data(dy, y, {axis}, y.dtype)",
}


def seconds(record: dict[str, Any]) -> float:
    """What timeit says."""
    setup = ARRAYS + (TENSORS if record["implementation"] == "torch" else "")
    call = CALLS[record["implementation"], record["op"]]
    command = [sys.executable, "-m", "timeit", "-u", "nsec", "-s", setup.format(**record)]
    environment = {**os.environ, "SOFTGRAD_NUM_THREADS": str(record["threads"])}
    done = subprocess.run(
        [*command, call.format(**record)], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split("best of")[1].split(":")[1].split()[0]) * 1e-9


def main() -> None:
    records = json.loads(Path(sys.argv[1]).read_text())["records"]
    rows = [r for r in records if (r["implementation"], r["op"]) in CALLS and r["into"] == "new"]
    rows = [r for r in rows if r["dtype"] != "bfloat16" and r["seconds"] is not None]
    far = 0
    for r in rows:
        ours, theirs = r["seconds"]["median"], seconds(r)
        agrees = 1 / NEAR <= ours / theirs <= NEAR
        far += not agrees
        name = f"{r['op']} {'x'.join(map(str, r['shape']))} {r['dtype']} {r['implementation']}"
        print(f"{name:48} {ours * 1e6:10.2f} µs, timeit {theirs * 1e6:10.2f} µs{'' if agrees else '  <<'}")
    print(f"{len(rows) - far} of {len(rows)} agree")


if __name__ == "__main__":
    main()
