"""What a sharded softmax sends, on paper: a model of collectives, its tables and its picture.

A row of n is divided among p processes.  Forward and backward exchange 7 numbers a row in 6 reductions
(src/softgrad/distributed.py), or else the row is gathered twice, once forward and once backward.

gloo takes rings: all_gather has p − 1 steps in which a process sends its shard, all_reduce 2(p − 1) steps
with a p-th of the message.  What a step takes, α + bytes/β, is measured on this machine with 2 processes
(collectives.py); with 4 the model can be compared.

NCCL is not measured here.  Its constants are those of its own model, by which it chooses an algorithm
(src/graph/tuning.cc of github.com/NVIDIA/nccl, commit 01afd20): latencies in µs of the low-latency protocol
(LL) and of the simple one.  The network is that of 8 cards of 400 Gb/s for the 8 GPUs of a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Time = Callable[[int, float], float]  # of processes and bytes

SHARDS = [2**k for k in range(1, 15)]
SHOWN = [2, 8, 64, 1024, 16384]
# (title, rows, elements of a row, bytes of each)
WORK = [
    ("a vocabulary of 131,072, 4,096 tokens, bfloat16", 4096, 131072, 2),
    ("a sequence of 1,048,576, 32 heads, bfloat16", 32, 1 << 20, 2),
]
REDUCTIONS = [("forward", [8, 8]), ("backward", [8, 8, 16, 8])]  # bytes a row of each

GPUS = 8  # of a node
BUS = 400e9  # bytes a second between nodes
TREE_LL = {"base": 4.4e-6, "inside": 0.52e-6, "between": 5.0e-6, "bus": 80e9 / 3.8 / 2}
RINGS = [
    {"base": 3.6e-6, "inside": 0.47e-6, "between": 2.7e-6, "bus": BUS / 4},  # LL
    {"base": 8.4e-6, "inside": 3.4e-6, "between": 9.6e-6, "bus": BUS},  # simple
]


def gloo(lines: list[Json]) -> tuple[Time, Time]:
    """all_reduce of a message and all_gather of a shard, from what two processes take."""
    of = {line["op"]: line for line in lines if line["processes"] == 2}

    def all_reduce(p: int, size: float) -> float:
        one = of["all_reduce"]  # two processes: two steps with half of the message each
        return (p - 1) * (one["alpha"] + 2 * size / p / one["beta"])

    def all_gather(p: int, shard: float) -> float:
        one = of["all_gather"]  # one step
        return (p - 1) * (one["alpha"] + shard / one["beta"])

    return all_reduce, all_gather


def nccl_all_reduce(p: int, size: float) -> float:
    """By a tree, LL."""
    nodes = max(p // GPUS, 1)
    inside = TREE_LL["inside"] * (1.8 if nodes > 1 else 1)
    latency = TREE_LL["base"] + 2 * ((p // nodes - 1) * inside + math.log2(nodes) * TREE_LL["between"])
    return latency + size / TREE_LL["bus"]


def nccl_all_gather(p: int, shard: float) -> float:
    """By a ring, LL or simple, whichever is faster."""
    nodes = max(p // GPUS, 1)

    def by(ring: dict[str, float], slower: float) -> float:
        latency = ring["base"] + (p - nodes) * ring["inside"] * slower + (nodes - 1) * ring["between"]
        return latency + (p - 1) * shard / ring["bus"]

    return min(by(RINGS[0], 1.8 if nodes > 1 else 1), by(RINGS[1], 1))


def models(run: Json) -> dict[str, tuple[Time, Time]]:
    return {"gloo": gloo(run["lines"]), "NCCL": (nccl_all_reduce, nccl_all_gather)}


def seconds(model: tuple[Time, Time], p: int, rows: int, n: int, itemsize: int) -> tuple[float, float]:
    """Forward and backward: the numbers exchanged, and the rows gathered."""
    all_reduce, all_gather = model
    numbers = sum(all_reduce(p, rows * size) for _, sizes in REDUCTIONS for size in sizes)
    return numbers, 2 * all_gather(p, rows * n * itemsize / p)


def sent(p: int, rows: int, n: int, itemsize: int) -> tuple[float, float]:
    """Bytes that a process sends, by rings: forward and backward."""
    numbers = sum(2 * (p - 1) / p * rows * size for _, sizes in REDUCTIONS for size in sizes)
    return numbers, 2 * (p - 1) * rows * n * itemsize / p


def off(run: Json) -> dict[str, tuple[float, float]]:
    """With four processes: the model's time over that measured, for the least and the largest message."""
    four = [c for c in run["cells"] if c["processes"] == 4]
    result = {}
    for op, time in zip(("all_reduce", "all_gather"), gloo(run["lines"]), strict=True):
        ratios = [time(4, c["bytes"]) / c["seconds"] for c in four if c["op"] == op]
        result[op] = ratios[0], ratios[-1]
    return result


def picture(run: Json) -> bytes:
    """Forward and backward against the number of shards: numbers and rows, by both models."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    from softgrad.bench import plot
    from softgrad.commands.units import SECONDS, with_unit

    with matplotlib.rc_context(plot.FIXED):
        figure = Figure((13, 4.6), layout="constrained")
        for axes, (title, *work) in zip(figure.subplots(1, 2, sharey=True), WORK, strict=True):
            for name, model in models(run).items():
                lines = zip(*(seconds(model, p, *work) for p in SHARDS), strict=True)
                measured = name == "gloo"
                for label, times, style in zip(
                    ("7 numbers a row", "rows gathered"), lines, ("softgrad", "jacobian"), strict=True
                ):
                    axes.plot(
                        SHARDS,
                        times,
                        **plot.STYLES[style] | {"linestyle": "-" if measured else ":", "markersize": 5},
                        label=f"{label}, {name}{' as measured here' if measured else ' on paper'}",
                    )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_title(title, loc="left", fontsize=11.5, pad=8)
            axes.set_xlabel("shards")
            axes.minorticks_off()
            axes.yaxis.set_major_locator(LogLocator())
            axes.yaxis.set_major_formatter(lambda value, _: with_unit(value, SECONDS))
            axes.xaxis.set_major_formatter(lambda p, _: f"{p:g}")
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_subplotspec().is_last_col():
                axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, labelcolor="linecolor")
        return plot.save(figure, "svg")
