"""The bounds that softmax and its relatives are held to, and how far records of grid.py meet them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

Record = dict[str, Any]

NOISE = 0.05  # what two equal calls may differ by


@dataclass(frozen=True)
class Bound:
    """A bound on each cell, or on their geometric mean, and the measured values."""

    name: str
    asked: str  # "≥ 0.9", "mean ≥ 1.5"
    values: dict[str, float]  # by the name of the cell

    @property
    def worst(self) -> float:
        return (min if "≥" in self.asked else max)(self.values.values())

    @property
    def missed(self) -> list[str]:
        sign, asked = (1 if "≥" in self.asked else -1), float(self.asked.split()[-1])
        return [f"{name}: {v:.3g}" for name, v in self.values.items() if not sign * v >= sign * asked]


def shape_of(r: Record) -> str:
    return "×".join(map(str, r["shape"])) + (", axis 0" if r["axis"] == 0 else "")


def name_of(r: Record) -> str:
    words = [r[key] for key in ("op", "dtype", "layout", "into", "cache") if key in r]
    return " ".join([*words, shape_of(r)] if "shape" in r else words)


def ratio(r: Record, peer: str = "torch", ours: str = "softgrad") -> float:
    """How many times as long as softgrad a peer takes."""
    return float(r["seconds"][peer] / r["seconds"][ours])


def of_limit(r: Record) -> float:
    """The forward's speed beside 0.75 of a copy's or twice PyTorch's, whichever is less."""
    return max(ratio(r, "limit") / 0.75, ratio(r, "torch") / 2)


def of_part(records: list[Record], part: str, peer: str = "", **what: Any) -> list[Record]:
    """The records of a part, of these ops, shapes and so on, with a time of the peer."""
    cells = [r for r in records if r["part"] == part and (not peer or peer in r["seconds"])]
    return [r for r in cells if all(r.get(key) == value for key, value in what.items())]


def bounds(records: list[Record]) -> list[Bound]:
    """All bounds with a cell in the records."""
    part = functools.partial(of_part, records)

    def beside(peer: str, ours: str = "softgrad") -> Any:
        return functools.partial(ratio, peer=peer, ours=ours)

    def sparse(vjp: bool) -> list[Record]:
        return [r for r in part("sparse") if r["op"].endswith("vjp") == vjp]

    grid, threads, half = part("grid"), part("threads"), part("grid", dtype="float16")
    short = [r for r in part("grid", dtype="float32", axis=-1) if r["shape"][-1] <= 16]
    most = [r for r in grid if r not in half + short]
    large = [r for r in threads if r["bytes"] > 8e6]
    tiny = part("small", shape=[2, 4], dtype="float32")
    cold, warm = (part("first call", cache=cache) for cache in ("cold", "warm"))
    forward, vjp = (part("grid", "limit", op=op) for op in ("softmax", "softmax_vjp"))
    saturated = beside("torch saturated", "saturated")
    result = []
    for name, asked, cells, value in (
        ("PyTorch's time / softgrad's", "≥ 0.9", most, ratio),
        ("the same, float16", "≥ 0.75", half, ratio),
        ("the same, float32 rows of up to 16", "≥ 0.7", short, ratio),
        ("the same, all", "mean ≥ 1.5", grid, ratio),
        ("the same, vjp of saturated rows", "≥ 0.25", part("grid", "saturated"), saturated),
        ("the same, vjp of saturated rows", "mean ≥ 0.8", part("grid", "saturated"), saturated),
        ("vjp: time for uniform dy / normal dy", "≤ 1.1", part("grid", "uniform"), beside("uniform")),
        ("vjp: time for uniform dy / normal dy", "mean ≤ 1.1", part("grid", "uniform"), beside("uniform")),
        ("forward: oneDNN's time / softgrad's", "≥ 1", part("grid", "onednn"), beside("onednn")),
        ("log_softmax and its vjp: PyTorch's time / softgrad's", "≥ 1", part("log"), ratio),
        ("logsumexp, entropy and their vjps: the same", "≥ 1", part("reductions"), ratio),
        (
            "sparsemax, entmax: the entmax package's time / softgrad's",
            "≥ 20",
            sparse(False),
            beside("entmax"),
        ),
        ("their vjps: the same", "≥ 5", sparse(True), beside("entmax")),
        ("gradient for alpha: time / the vjp's", "≤ 3", part("sparse", "alpha"), beside("alpha")),
        ("closed form in NumPy: time / softgrad's", "≥ 2", part("grid", "numpy"), beside("numpy")),
        ("the same, small arrays", "≥ 1", part("small", "numpy"), beside("numpy")),
        ("a call on 2×4: PyTorch's time / softgrad's", "≥ 1", tiny, ratio),
        ("two threads, beyond 8 MB: PyTorch's time / softgrad's", "≥ 0.9", large, ratio),
        ("two threads: PyTorch's time / softgrad's", "mean ≥ 0.9", threads, ratio),
        ("softgrad: one thread's time / two's", f"≥ {1 - NOISE}", threads, beside("one thread")),
        ("vjp: triad's time / softgrad's", "≥ 0.9", vjp, beside("limit")),
        ("forward: speed / the lesser of 0.75 copies and 2 PyTorch's", "≥ 1", forward, of_limit),
        ("time with a mask / without", "≤ 1.8", part("masked"), beside("masked")),
        ("reproduce: closed form's time / softgrad's", "≥ 2", part("reproduce"), beside("numpy")),
        ("reproduce: autograd's time / softgrad's", "≥ 1", part("reproduce", "torch"), ratio),
        ("first call, cold cache, s", "≤ 5", cold, lambda r: r["seconds"]["softgrad"]),
        ("first call, warm cache, s", "≤ 0.7", warm, lambda r: r["seconds"]["softgrad"]),
        ("import softgrad after NumPy, ms", "≤ 50", part("import"), lambda r: r["seconds"]["softgrad"] * 1e3),
        ("memory with out=, MB", "≤ 1", part("memory", into="out"), lambda r: r["grown"] / 2**20),
        ("memory beyond the result, MB", "≤ 1", part("memory", into="new"), lambda r: r["grown"] / 2**20),
    ):
        values = {name_of(r): value(r) for r in cells}
        if values and asked.startswith("mean"):
            values = {f"{len(cells)} cells": geometric_mean(values.values())}
        if values:
            result.append(Bound(name, asked, values))
    return result
