"""Cross-entropy and its gradient beside PyTorch's forward and backward: time, and the most memory at once.

    python benchmarks/cross_entropy.py

Both compute the loss and ∂L/∂x of 2048 rows of 32,000 classes in float32, PyTorch through autograd.  The
calls are timed in turns; memory is that of a process of its own for each, in which the logits are there and
everything was called before on a few rows.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import softgrad
from softgrad.bench import timing

SHAPE = 2048, 32000
MB = 1e6


def calls(rows: int) -> tuple[np.ndarray, dict[str, Callable[[], Any]]]:
    """The logits, and for each way the call that gives the gradient."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, SHAPE[1]), np.float32)
    target = random.integers(0, SHAPE[1], rows)
    leaf, classes = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)

    def pytorch() -> Any:
        leaf.grad = None
        torch.nn.functional.cross_entropy(leaf, classes).backward()
        return leaf.grad.numpy()

    def ours(out: np.ndarray | None = None) -> Any:
        return softgrad.cross_entropy_with_vjp(x, target, out=out)[1]()

    kept: list[np.ndarray] = []  # written to again and again

    def into_kept() -> Any:
        kept[:] = kept or [np.empty_like(x)]
        return ours(kept[0])

    # over the logits comes last: it leaves others there, of the same shape, which cost the same
    return x, {
        "PyTorch": pytorch,
        "softgrad": ours,
        "softgrad, out=": into_kept,
        "softgrad, out=x": lambda: ours(x),
    }


def most_memory() -> int:
    """The most bytes that this process had in memory at once (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def memory(name: str) -> int:
    """What a call takes beyond what is there before it, the logits among it; run in a process of its own."""
    calls(2)[1][name]()
    _, every = calls(SHAPE[0])
    before = most_memory()
    gradient = every[name]()
    assert gradient.shape == SHAPE
    return most_memory() - before


def memory_elsewhere(name: str) -> int:
    done = subprocess.run(
        [sys.executable, __file__, name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def main() -> None:
    logits = 4 * SHAPE[0] * SHAPE[1]
    names = list(calls(2)[1])
    print(f"{SHAPE[0]}×{SHAPE[1]} float32, {logits / MB:.0f} MB of logits")
    if sys.platform == "linux":
        beyond = {name: memory_elsewhere(name) for name in names}
        for name in names:
            share = beyond[name] / beyond["PyTorch"], (beyond[name] + logits) / (beyond["PyTorch"] + logits)
            print(
                f"{name:16} {beyond[name] / MB:7.1f} MB beyond the logits, {share[0]:.2f} of PyTorch's "
                f"({share[1]:.2f} with the logits)"
            )

    _, every = calls(SHAPE[0])
    expected = every["PyTorch"]()
    error = np.linalg.norm(every["softgrad"]() - expected) / np.linalg.norm(expected)
    assert error < 1e-5, error
    for threads in (1, 2):
        softgrad.set_num_threads(threads)
        torch.set_num_threads(threads)
        pause = 0.0 if threads == 1 else 0.02
        samples = timing.interleaved(every, rounds=9, fewest=5, budget=6, pause=pause)
        for name in names:
            ratio = timing.spread(timing.ratios(samples["PyTorch"], samples[name]))
            print(
                f"{name:16} {threads} thread{'s' * (threads > 1)} "
                f"{statistics.median(samples[name]) * 1e3:7.1f} ms, "
                f"PyTorch takes {ratio.median:.1f} times that (quartiles {ratio.q1:.1f} to {ratio.q3:.1f})"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(memory(sys.argv[1]))
    else:
        main()
