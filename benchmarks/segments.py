"""segment_softmax and its vjp beside PyTorch's scatter_reduce, index_add and indexing, as usually written.

A million rows in 100,000 segments, float32, one thread each, in interleaved pairs.  Both return new arrays;
PyTorch is given the number of each row's segment, ready made, and softgrad the offsets, which it checks each
time.  `python benchmarks/segments.py` takes about 20 seconds.
"""

from __future__ import annotations

import numpy as np
import torch

import softgrad
from softgrad.bench import timing

ROWS, SEGMENTS = 1_000_000, 100_000
ASKED = 5.0


def drawn(rng: np.random.Generator) -> np.ndarray:
    """The lengths if each row draws its segment: about 10 ± 3."""
    return np.bincount(rng.integers(0, SEGMENTS, ROWS), minlength=SEGMENTS)


def cut(rng: np.random.Generator) -> np.ndarray:
    """The lengths between random cuts: one in ten is 0, one in a hundred above 43."""
    return np.diff(np.sort(rng.integers(0, ROWS + 1, SEGMENTS - 1)), prepend=0, append=ROWS)


def by_torch(x, index, segments):
    shape = (segments, *x.shape[1:])
    there = index.reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)
    top = torch.full(shape, -torch.inf).scatter_reduce(0, there, x, "amax")
    e = torch.exp(x - top[index])
    return e / torch.zeros(shape).index_add(0, index, e)[index]


def vjp_by_torch(y, dy, index, segments):
    mean = torch.zeros((segments, *y.shape[1:])).index_add(0, index, y * dy)
    return y * (dy - mean[index])


def pairs(x, dy, offsets, index) -> dict[str, dict[str, timing.Call]]:
    y = softgrad.segment_softmax(x, offsets)
    x_there, y_there, dy_there = (torch.from_numpy(a) for a in (x, y, dy))
    return {
        "softmax": {
            "softgrad": lambda: softgrad.segment_softmax(x, offsets),
            "PyTorch": lambda: by_torch(x_there, index, SEGMENTS),
        },
        "vjp": {
            "softgrad": lambda: softgrad.segment_softmax_vjp(y, dy, offsets),
            "PyTorch": lambda: vjp_by_torch(y_there, dy_there, index, SEGMENTS),
        },
    }


def main() -> None:
    torch.set_num_threads(1)
    softgrad.set_num_threads(1)
    rng = np.random.default_rng(0)
    for lengths in (drawn(rng), cut(rng)):
        print(f"{SEGMENTS} segments of {lengths.min()} to {lengths.max()} rows")
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = torch.from_numpy(np.repeat(np.arange(SEGMENTS), lengths))
        for shape in ((ROWS,), (ROWS, 8)):
            x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
            for name, calls in pairs(x, dy, offsets, index).items():
                ours, theirs = (np.asarray(call()) for call in calls.values())
                assert np.abs(ours - theirs).max() < 1e-5
                samples = timing.interleaved(calls, budget=1.5)
                here, there = (timing.spread(samples[library]).median * 1e3 for library in calls)
                ratio = timing.spread(timing.ratios(samples["PyTorch"], samples["softgrad"]))
                print(
                    f"  {name:8}{shape!s:14} softgrad {here:6.2f} ms, PyTorch {there:7.2f} ms: "
                    f"{ratio.median:5.1f} times as long ({ratio.q1:.1f} … {ratio.q3:.1f})"
                    f"{'' if ratio.median >= ASKED else f', asked: {ASKED:g}'}"
                )


if __name__ == "__main__":
    main()
