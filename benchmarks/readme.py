"""Write the figures of README.md, and its picture, from the runs in results/: none is copied by hand.

What lies between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced by the block of that name.

    python benchmarks/readme.py            writes README.md and docs/bench.svg
    python benchmarks/readme.py --check    exits with 1 if that would change it
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import picture
from bounds import geometric_mean

from softgrad.commands.words import SECONDS, in_words

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
PICTURE = HERE.parent / "docs" / "bench.svg"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

LIBRARIES = {"softgrad": "softgrad", "numpy": "NumPy", "scipy": "SciPy", "torch": "PyTorch", "jax": "JAX"}
DTYPES = "float16", "bfloat16", "float32", "float64"

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Json = dict[str, Any]


def rows(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    marks = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *lines)) + "\n"


def short(value: float) -> str:
    """Three digits, or a power of ten."""
    if value >= 1e4:
        return "10" + str(math.floor(math.log10(value))).translate(RAISED)
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def machine(accuracy: Json, grid: Json) -> str:
    found = grid["environment"]
    names = {"numpy": "NumPy", "numba": "Numba", "scipy": "SciPy", "torch": "PyTorch", "jax": "JAX"}
    versions = ", ".join(f"{names[key]} {found[key]}" for key in names if key in found)
    return (
        f"Measured on {found['date']} with {found['cores']} cores of an {found['cpu']}: "
        f"softgrad {found['softgrad']}, Python {found['python']}, {versions}.\n"
    )


def exactness(accuracy: Json, grid: Json) -> str:
    """How many of the hard cases each library misses, and its worst error."""
    found = {(r["operation"], r["dtype"], r["implementation"]): r for r in accuracy["records"]}
    lines = []
    for operation, unit in (("softmax", "ulp"), ("softmax_vjp", "eps")):
        for dtype in DTYPES:
            line = [f"`{operation}` {dtype}, {unit}"]
            for library in LIBRARIES:
                r = found.get((operation, dtype, library))
                worst = "–" if r is None else "∞" if r["worst"] is None else short(r["worst"])
                line.append(worst if r is None else f"{r['missed']} ({worst})")
            lines.append(line)
    total = next(r["cases"] for r in accuracy["records"])
    return rows([f"cases missed, of {total} (worst error)", *LIBRARIES.values()], lines)


def speed(accuracy: Json, grid: Json) -> str:
    """Each library as it is called: softgrad's time, and the others' as multiples of it."""
    found: dict[tuple[Any, ...], dict[str, Json]] = {}
    for r in grid["records"]:
        if r["into"] == "new" and r["threads"] == 1:
            key = r["op"], tuple(r["shape"]), r["axis"], r["dtype"]
            found.setdefault(key, {})[r["implementation"]] = r
    found = {key: by_library for key, by_library in found.items() if "numpy" in by_library}
    lines = []
    for (op, shape, axis, dtype), by_library in found.items():
        line = [f"`{op}` {' × '.join(map(str, shape))} {dtype}{', axis 0' if axis == 0 else ''}"]
        line.append(in_words(by_library["softgrad"]["seconds"]["median"], SECONDS))
        for library in list(LIBRARIES)[1:]:
            line.append(beside(by_library.get(library)))
        lines.append(line)
    return rows(["into a new array", *LIBRARIES.values()], lines)


def beside(r: Json | None) -> str:
    if r is None or r["ratio"] is None:
        return "unsound" if r is not None and r["left_out"].startswith("not sound") else "–"
    return f"{short(r['ratio']['median'])} ×"


def beside_pytorch(accuracy: Json, grid: Json) -> str:
    """All cells of the grid: means over the dtypes, and the smallest ratio."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for r in grid["records"]:
        if r["into"] == "out" and r["implementation"] == "torch" and r["ratio"] is not None:
            shape = f"{' × '.join(map(str, r['shape']))}{', axis 0' if r['axis'] == 0 else ''}"
            found.setdefault((shape, r["op"], r["threads"]), []).append(r["ratio"]["median"])
    shapes = list(dict.fromkeys(shape for shape, _, _ in found))
    columns = list(dict.fromkeys((op, threads) for _, op, threads in found))
    lines = []
    for shape in shapes:
        line = [shape]
        for op, threads in columns:
            ratios = found[shape, op, threads]
            line.append(f"{short(geometric_mean(ratios))} ({short(min(ratios))})")
        lines.append(line)
    every = [ratio for ratios in found.values() for ratio in ratios]
    header = [f"`{op}`, {threads} thread{'s' * (threads > 1)}" for op, threads in columns]
    lost = sum(ratio < 1 for ratio in every)
    return (
        rows(["PyTorch's time beside softgrad's", *header], lines)
        + f"\nEach figure is the geometric mean over the four dtypes, and the smallest of them.  Of all "
        f"{len(every)} cells the geometric mean is {short(geometric_mean(every))}; softgrad is the slower "
        f"one in {lost}.\n"
    )


def bounds(accuracy: Json, grid: Json) -> str:
    """What softgrad was asked to reach, and what was measured."""
    lines = [
        [b["name"], b["asked"], short(b["measured"]), "yes" if b["met"] else "**no**"] for b in grid["bounds"]
    ]
    return rows(["", "asked", "measured", "met"], lines)


BLOCKS: dict[str, Callable[[Json, Json], str]] = {
    "machine": machine,
    "exactness": exactness,
    "speed": speed,
    "beside_pytorch": beside_pytorch,
    "bounds": bounds,
}
NEEDED = "machine", "exactness", "speed"


def renewed(text: str) -> str:
    """The README with its blocks written anew."""
    accuracy = json.loads((HERE / "results" / "accuracy.json").read_text())
    grid = json.loads((HERE / "results" / "grid.json").read_text())
    names = {match[2] for match in BLOCK.finditer(text)}
    if lacking := [name for name in NEEDED if name not in names]:
        marks = ", ".join(f"<!-- generated: {name} --> … <!-- end -->" for name in lacking)
        sys.exit(f"{README.name} lacks {marks}: put the marks, each on a line, where the block should be")
    if unknown := sorted(names - BLOCKS.keys()):
        sys.exit(f"{README.name} asks for {', '.join(unknown)}; there are {', '.join(BLOCKS)}")
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]](accuracy, grid)}{match[4]}", text)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not README.exists():
        sys.exit("there is no README.md")
    text = README.read_text(encoding="utf-8")
    new = renewed(text)
    grid = json.loads((HERE / "results" / "grid.json").read_text())
    drawn = PICTURE.exists() and f'data-figures="{picture.mark(grid)}"' in PICTURE.read_text(encoding="utf-8")
    if options.check:
        if not drawn:
            sys.exit("docs/bench.svg is not drawn from benchmarks/results: run benchmarks/readme.py")
        if new != text:
            sys.exit("README.md is not what the results in benchmarks/results say: run benchmarks/readme.py")
        return
    PICTURE.write_bytes(picture.svg(grid))
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
