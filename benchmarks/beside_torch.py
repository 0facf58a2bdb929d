"""softgrad beside PyTorch where the grid has no cell: cross-entropy with its gradient, and segments.

    python benchmarks/beside_torch.py [cross_entropy] [segments]

cross_entropy: loss and ∂L/∂x of 2048 rows of 32,000 classes, PyTorch through autograd; time and peak memory.
segments: softmax and vjp of a million rows in 100,000 segments, beside scatter_reduce, index_add and
indexing, as usually written; PyTorch has the segment of each row ready made, softgrad the offsets, which it
checks each time.  All is float32, timed in turns.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import softgrad
from softgrad.bench import memory, timing
from softgrad.commands.units import BYTES, SECONDS, with_unit

torch = memory.torch_if_installed()

CLASSES = 2048, 32000
ROWS, SEGMENTS = 1_000_000, 100_000

Array = np.ndarray
Calls = dict[str, Callable[[], Any]]


def compare(what: str, calls: Calls, threads: int = 1, **options: Any) -> None:
    """Print the time of each call, and PyTorch's as a multiple."""
    softgrad.set_num_threads(threads)
    torch.set_num_threads(threads)
    samples = timing.interleaved(calls, pause=0.0 if threads == 1 else 0.02, **options)
    for name, own in samples.items():
        ratio = timing.spread(timing.ratios(samples["PyTorch"], own))
        time = with_unit(timing.spread(own).median, SECONDS)
        times = f"{ratio.median:.1f} times that ({ratio.q1:.1f} to {ratio.q3:.1f})"
        print(f"{what:20} {threads} thread{'s' * (threads > 1)}  {name:16} {time:>8}, PyTorch takes {times}")


# --- cross-entropy -----------------------------------------------------------------------------------


def cross_entropy() -> None:
    """The calls that give the gradient, their memory and their time."""
    random = np.random.default_rng(0)
    x, out = random.standard_normal(CLASSES, np.float32), np.zeros(CLASSES, np.float32)
    target = random.integers(0, CLASSES[1], CLASSES[0])
    leaf, classes = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)

    def pytorch() -> Any:
        leaf.grad = None
        torch.nn.functional.cross_entropy(leaf, classes).backward()
        return leaf.grad.numpy()

    def ours(out: Array | None = None) -> Any:
        return softgrad.cross_entropy_with_vjp(x, target, out=out)[1]()

    expected = pytorch()
    error = np.linalg.norm(ours() - expected) / np.linalg.norm(expected)
    assert error < 1e-5, error
    # over the logits comes last: it leaves others there, of the same shape, which cost the same
    calls = {
        "PyTorch": pytorch,
        "softgrad": ours,
        "softgrad, out=": lambda: ours(out),
        "softgrad, out=x": lambda: ours(x),
    }
    for name, call in calls.items():
        peak = memory.peak_of_torch(call) if name == "PyTorch" else memory.peak(call)
        print(f"cross_entropy {name:16} {with_unit(peak, BYTES):>8} at its peak, beyond the logits")
    for threads in (1, 2):
        compare("cross_entropy", calls, threads, rounds=9, budget=6.0)


# --- segments ----------------------------------------------------------------------------------------


def lengths() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        # about 10 ± 3: each row draws its segment
        "drawn": np.bincount(random.integers(0, SEGMENTS, ROWS), minlength=SEGMENTS),
        # between random cuts: one in ten is 0, one in a hundred above 43
        "cut": np.diff(np.sort(random.integers(0, ROWS + 1, SEGMENTS - 1)), prepend=0, append=ROWS),
    }


def softmax_by_torch(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    shape = (SEGMENTS, *x.shape[1:])
    places = index.reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)
    top = torch.full(shape, -torch.inf).scatter_reduce(0, places, x, "amax")
    e = torch.exp(x - top[index])
    return e / torch.zeros(shape).index_add(0, index, e)[index]


def vjp_by_torch(y: torch.Tensor, dy: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    mean = torch.zeros((SEGMENTS, *y.shape[1:])).index_add(0, index, y * dy)
    return y * (dy - mean[index])


def segments() -> None:
    for kind, sizes in lengths().items():
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        index = torch.from_numpy(np.repeat(np.arange(SEGMENTS), sizes))
        for shape in ((ROWS,), (ROWS, 8)):
            x, dy = np.random.default_rng(1).standard_normal((2, *shape), dtype=np.float32)
            y = softgrad.segment_softmax(x, offsets)
            tensors = [torch.from_numpy(a) for a in (x, y, dy)]
            ours = {
                "softmax": functools.partial(softgrad.segment_softmax, x, offsets),
                "vjp": functools.partial(softgrad.segment_softmax_vjp, y, dy, offsets),
            }
            theirs = {
                "softmax": functools.partial(softmax_by_torch, tensors[0], index),
                "vjp": functools.partial(vjp_by_torch, *tensors[1:], index),
            }
            width = "" if len(shape) == 1 else f" × {shape[1]}"
            for op in ours:
                assert np.abs(ours[op]() - theirs[op]().numpy()).max() < 1e-5
                calls = {"softgrad": ours[op], "PyTorch": theirs[op]}
                compare(f"{op}, {kind}{width}", calls, budget=1.5)


PARTS = {"cross_entropy": cross_entropy, "segments": segments}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
