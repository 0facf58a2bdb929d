"""What softgrad was asked to reach, and whether the records of a run of grid.py say that it does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def name_of(r: Record) -> str:
    shape = "×".join(map(str, r["shape"]))
    threads = f", {r['threads']} threads" if r.get("threads", 1) > 1 else ""
    return f"{r['op']} {shape} axis {r['axis']} {r['dtype']}{threads}"


def bound(
    name: str, sign: str, asked: float, cells: list[Record], value: Callable[[Record], float]
) -> Record:
    """The worst of all cells beside what is asked of each, and the cells that miss it."""
    values = [value(r) for r in cells]
    if sign == "≥":
        worst, missed = min(values), [v < asked for v in values]
    else:
        worst, missed = max(values), [v > asked for v in values]
    return {
        "name": name,
        "asked": f"{sign} {asked:g}",
        "measured": worst,
        "met": not any(missed),
        "of": len(cells),
        "missed": [
            f"{name_of(r)}: {v:.3g}" for r, v, miss in zip(cells, values, missed, strict=True) if miss
        ],
    }


def bounds(found: Record) -> list[Record]:
    """Of what grid.py measured."""
    records = [r for r in found["records"] if r["seconds"] is not None]

    def only(**what: Any) -> list[Record]:
        return [r for r in records if all(r[k] == v for k, v in what.items())]

    def of_shape(shape: tuple[int, ...], given: list[Record]) -> list[Record]:
        return [r for r in given if tuple(r["shape"]) == shape]

    def ratio(r: Record) -> float:
        return float(r["ratio"]["median"])

    def limit_ratio(r: Record) -> float:
        return float(r["limit_ratio"]["median"])

    def seconds(r: Record) -> float:
        return float(r["seconds"]["median"])

    def scratch(r: Record) -> float:
        """Megabytes beyond the result."""
        arrays = 2 if r["op"] == "softmax" else 3
        return float(r["peak_bytes"] - (r["into"] == "new") * r["bytes"] / arrays) / 1e6

    cells = only(implementation="torch", into="out")
    short = [r for r in cells if r["axis"] == -1 and r["shape"][-1] <= 64]
    columns = of_shape((3000, 4096), cells)
    mean = {
        "op": "all cells",
        "shape": (),
        "axis": "",
        "dtype": "",
        "mean": geometric_mean([*map(ratio, cells)]),
    }
    one = only(implementation="softgrad", into="out", dtype="float32", threads=1, axis=-1)
    square = of_shape((4096, 4096), one)
    vjp, forward = ([r for r in square if r["op"] == op] for op in ("softmax_vjp", "softmax"))
    jacobian = of_shape((32, 512), only(implementation="jacobian"))
    ours = [r for r in found["records"] if r["implementation"] == "softgrad" and r["peak_bytes"] is not None]
    loading = {**mean, "op": "import", **found["import"]}
    bounds = [
        bound("PyTorch's time beside softgrad's", "≥", 1, cells, ratio),
        bound("the same, rows of up to 64", "≥", 4, short, ratio),
        bound("the same, 3000×4096 on axis 0", "≥", 3, columns, ratio),
        bound("the same, geometric mean", "≥", 2, [mean], lambda r: r["mean"]),
        bound("softmax_vjp at 4096×4096 float32: speed beside a triad's", "≥", 0.9, vjp, limit_ratio),
        bound("softmax at 4096×4096 float32: speed beside a copy's", "≥", 0.8, forward, limit_ratio),
        bound("the article's Jacobian: time beside softmax_vjp's", "≥", 4000, jacobian, ratio),
        bound("a call less its kernel, µs", "≤", 4, found["overhead"], lambda r: seconds(r) * 1e6),
        bound("import softgrad after numpy, ms", "≤", 100, [loading], lambda r: seconds(r) * 1e3),
        bound("memory beyond the result, MB", "≤", 4, ours, scratch),
    ]
    for cache, asked in (("cold", 5.0), ("warm", 0.5)):
        firsts = [r for r in found["first_calls"] if r["cache"] == cache]
        for key, what in (("seconds", ""), ("seconds_with_imports", " and the imports")):
            name = f"first call{what}, {cache} cache, s"
            bounds.append(bound(name, "≤", asked, firsts, lambda r, key=key: float(r[key]["median"])))
    return bounds
