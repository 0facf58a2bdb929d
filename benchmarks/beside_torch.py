"""softgrad beside PyTorch where the grid has no cell: cross-entropy with its gradient, and segments.

    python benchmarks/beside_torch.py [cross_entropy] [segments] [rows]

cross_entropy: loss and ∂L/∂x of 2048 rows of 32,000 classes, PyTorch through autograd; time and peak memory.
segments: softmax and vjp of a million rows in 100,000 segments, beside scatter_reduce, index_add and
indexing, as usually written; PyTorch has the segment of each row ready made, softgrad the offsets, which it
checks each time.
rows: sinks, a scale and a mean of each row, and log_softmax, logsumexp and entropy of segments, forward and
gradient together, beside the formula as it is usually written, through autograd; the segments are the rows.
All is float32, timed in turns.
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
        ratio = timing.spread(samples["PyTorch"], own)
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


# --- rows with numbers of their own, and rows as segments ---------------------------------------------


def log_of_segments(x: torch.Tensor, index: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """log_softmax and logsumexp of segments."""
    top = torch.full((count,), -torch.inf).scatter_reduce(0, index, x.detach(), "amax")
    log_sum = torch.log(torch.zeros(count).index_add(0, index, torch.exp(x - top[index]))) + top
    return x - log_sum[index], log_sum


def entropy_of_segments(x: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    log_p, _ = log_of_segments(x, index, count)
    return torch.zeros(count).index_add(0, index, -log_p.exp() * log_p)


def through(function: Any, dy: Array, *arrays: Array) -> Callable[[], Any]:
    """PyTorch's forward and backward."""

    def call() -> Any:
        leaves = [torch.from_numpy(a).requires_grad_() for a in arrays]
        return torch.autograd.grad(function(*leaves), leaves, torch.from_numpy(dy))[0]

    return call


def in_segments(name: str, x: Array, dy: Array, offsets: Array) -> Any:
    y = getattr(softgrad, f"segment_{name}")(x, offsets)
    return getattr(softgrad, f"segment_{name}_vjp")(y if "softmax" in name else x, dy, offsets)


def with_sink(x: Array, sink: Array, dy: Array) -> Any:
    y, y_sink = softgrad.sink_softmax(x, sink)
    return softgrad.sink_softmax_vjp(y, y_sink, dy)[0]


def with_scale(x: Array, scale: Array, dy: Array) -> Any:
    y = softgrad.softmax(x, scale=scale)
    softgrad.softmax_scale_vjp(x, y, dy)
    return softgrad.softmax_vjp(y, dy, scale=scale)


def rows_of(count: int, n: int) -> None:
    random = np.random.default_rng(1)
    x, dy = random.standard_normal((2, count, n), dtype=np.float32)
    number, d_number = random.standard_normal((2, count, 1), dtype=np.float32)
    scale, flat, offsets = np.exp(number), x.ravel(), np.arange(0, x.size + 1, n)
    index = torch.arange(count).repeat_interleave(n)
    theirs = {
        "sink": through(lambda x, s: torch.softmax(torch.cat([x, s], 1), 1)[:, :-1], dy, x, number),
        "scale": through(lambda x, s: torch.softmax(s * x, 1), dy, x, scale),
        "log_softmax": through(lambda x: log_of_segments(x, index, count)[0], dy.ravel(), flat),
        "logsumexp": through(lambda x: log_of_segments(x, index, count)[1], d_number[:, 0], flat),
        "entropy": through(lambda x: entropy_of_segments(x, index, count), d_number[:, 0], flat),
    }
    ours = {
        "sink": functools.partial(with_sink, x, number, dy),
        "scale": functools.partial(with_scale, x, scale, dy),
        "log_softmax": functools.partial(in_segments, "log_softmax", flat, dy.ravel(), offsets),
        "logsumexp": functools.partial(in_segments, "logsumexp", flat, d_number[:, 0], offsets),
        "entropy": functools.partial(in_segments, "entropy", flat, d_number[:, 0], offsets),
    }
    for name, call in ours.items():
        assert np.abs(call() - theirs[name]().numpy().reshape(call().shape)).max() < 1e-4
        compare(f"{name} {count}×{n}", {"softgrad": call, "PyTorch": theirs[name]}, budget=1.5)


def rows() -> None:
    for shape in ((1000, 1000), (64, 32768), (50000, 64)):
        rows_of(*shape)


PARTS = {"cross_entropy": cross_entropy, "segments": segments, "rows": rows}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
