"""Speed: sparsemax and entmax beside the `entmax` package, one thread, float32.

    python benchmarks/entmax_peer.py

Samples are taken in turns; a ratio is the median of the ratios of neighbouring samples, and above 1 means
that softgrad is faster.  Both return new arrays.  The package's backward is what `autograd.grad` takes.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

import softgrad
from softgrad.bench import judges, measure

SHAPES = [(1000, 1000), (64, 32768)]
NAMES = {
    "sparsemax": (softgrad.sparsemax, softgrad.sparsemax_vjp),
    "entmax15": (softgrad.entmax, softgrad.entmax_vjp),
}


def calls(name: str, shape: tuple[int, int]) -> dict[str, dict[str, measure.Call]]:
    """Forward and backward of both."""
    torch: Any = judges.torch_if_installed()
    theirs = getattr(importlib.import_module("entmax"), name)
    forward, vjp = NAMES[name]
    rng = np.random.default_rng(42)
    x, dy = (rng.standard_normal(shape, np.float32) for _ in range(2))
    there, gradient = torch.tensor(x, requires_grad=True), torch.tensor(dy)
    y, y_there = forward(x), theirs(there, -1)
    return {
        "forward": {"softgrad": lambda: forward(x), "entmax": lambda: theirs(there.detach(), -1)},
        "backward": {
            "softgrad": lambda: vjp(y, dy),
            "entmax": lambda: torch.autograd.grad(y_there, there, gradient, retain_graph=True),
        },
    }


def main() -> None:
    softgrad.set_num_threads(1)
    judges.torch_if_installed().set_num_threads(1)
    print("function   shape        direction  softgrad     entmax       ratio (quartiles)")
    for name in NAMES:
        for shape in SHAPES:
            for direction, pair in calls(name, shape).items():
                samples = measure.interleaved(pair, rounds=21, budget=2.0)
                ours, theirs = (measure.spread(samples[key]).median * 1e3 for key in ("softgrad", "entmax"))
                ratio = measure.spread(measure.ratios(samples["entmax"], samples["softgrad"]))
                size = "×".join(map(str, shape))
                print(
                    f"{name:10} {size:12} {direction:9} {ours:8.3f} ms {theirs:9.3f} ms "
                    f"{ratio.median:7.1f} ({ratio.q1:.1f} to {ratio.q3:.1f})"
                )


if __name__ == "__main__":
    main()
