"""Write the figures of README.md, docs/benchmarks.md and docs/torch.md from the runs in results/.

No figure is copied by hand: the text between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced by
the block of that name.

    python benchmarks/readme.py            writes them
    python benchmarks/readme.py --check    exits with 1 if that would change them
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

from bounds import bounds, geometric_mean, ratio, shape_of

from softgrad.commands.units import SECONDS, with_unit

HERE = Path(__file__).parent
ROOT = HERE.parent
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

LIBRARIES = {"softgrad": "softgrad", "numpy": "NumPy", "scipy": "SciPy", "torch": "PyTorch", "jax": "JAX"}
DTYPES = "float16", "bfloat16", "float32", "float64"

OPS = "softmax", "softmax_vjp"
THREADS = {"grid": "one thread", "threads": "two threads"}  # by the part of a record

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Json = dict[str, Any]
Runs = dict[str, Json]  # what results/NAME.json holds, by NAME


def rows(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    marks = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *lines)) + "\n"


def short(value: float) -> str:
    """Three digits, or a power of ten."""
    if value >= 1e4:
        return "10" + str(math.floor(math.log10(value))).translate(RAISED)
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def measured_on(run: Json) -> str:
    found = run["environment"]
    vectors = f" ({found['instructions']})" if "instructions" in found else ""
    names = {"numpy": "NumPy", "numba": "Numba", "scipy": "SciPy", "torch": "PyTorch", "jax": "JAX"}
    names |= {"entmax": "entmax"}
    versions = ", ".join(f"{names[key]} {found[key]}" for key in names if key in found)
    return (
        f"Measured on {found['date']} with {found['cores']} cores of an {found['cpu']}{vectors}: "
        f"softgrad {found['softgrad']}, Python {found['python']}, {versions}.\n"
    )


def exactness(runs: Runs) -> str:
    """How many of the hard cases each library misses, and its worst error."""
    found = {(r["operation"], r["dtype"], r["implementation"]): r for r in runs["accuracy"]["records"]}
    lines = []
    for operation, unit in zip(OPS, ("ulp", "eps"), strict=True):
        for dtype in DTYPES:
            line = [f"`{operation}` {dtype}, {unit}"]
            for library in LIBRARIES:
                r = found.get((operation, dtype, library))
                worst = "–" if r is None else "∞" if r["worst"] is None else short(r["worst"])
                line.append(worst if r is None else f"{r['missed']} ({worst})")
            lines.append(line)
    total = next(r["cases"] for r in runs["accuracy"]["records"])
    return rows([f"cases missed, of {total} (worst error)", *LIBRARIES.values()], lines)


# --- results/grid.json ----------------------------------------------------------------------------------

# The cells of the README's table
TABLE = [
    ([32, 512], -1, "float64"),
    ([1000, 1000], -1, "float32"),
    ([4096, 4096], -1, "float32"),
    ([8, 128256], -1, "bfloat16"),
    ([200000, 8], -1, "float32"),
    ([3000, 4096], 0, "float32"),
]


def of_part(runs: Runs, part: str, **what: Any) -> list[Json]:
    records = runs["grid"]["records"]
    return [r for r in records if r["part"] == part and all(r[key] == value for key, value in what.items())]


def times(value: float) -> str:
    """A ratio, bold where softgrad is the slower one."""
    return f"{short(value)}×" if value >= 1 else f"**{short(value)}×**"


def speed(runs: Runs) -> str:
    """A dozen cells: softgrad's time, and the others' as multiples of it."""
    lines = []
    for shape, axis, dtype in TABLE:
        for r in of_part(runs, "grid", shape=shape, axis=axis, dtype=dtype):
            others = [times(ratio(r, peer)) if peer in r["seconds"] else "–" for peer in ("torch", "numpy")]
            name = f"`{r['op']}` {shape_of(r)}, {dtype}"
            lines.append([name, with_unit(r["seconds"]["softgrad"], SECONDS), *others])
    return rows(["one thread", "softgrad", "PyTorch", "NumPy"], lines)


def beside_pytorch(runs: Runs) -> str:
    """All cells of the grid in a sentence for each number of threads."""
    text = ""
    for part, threads in THREADS.items():
        if ratios := [ratio(r) for r in of_part(runs, part)]:
            text += (
                f"With {threads} PyTorch takes {short(geometric_mean(ratios))} times softgrad's time, "
                f"the geometric mean of {len(ratios)} cells (from {short(min(ratios))} to "
                f"{short(max(ratios))}); softgrad is the slower one in {sum(r < 1 for r in ratios)}.\n"
            )
    return text


def grid(runs: Runs) -> str:
    """Every cell: a table for each function and number of threads, and one for each other peer and input."""

    def both(r: Json) -> str:
        return f"{with_unit(r['seconds']['softgrad'], SECONDS)}, {times(ratio(r))}"

    tables = [
        (f"`{op}`, {threads}: softgrad's time, and PyTorch's as a multiple", of_part(runs, part, op=op), both)
        for part, threads in THREADS.items()
        for op in OPS
    ]
    for peer, name, ours in (
        ("torch saturated", "PyTorch's time as a multiple, saturated rows (logits ×10)", "saturated"),
        ("uniform", "the time for dy uniform on (0, 1) as a multiple of that for normal dy", "softgrad"),
        ("onednn", "oneDNN's time as a multiple", "softgrad"),
        ("numpy", "the time of NumPy's closed form as a multiple", "softgrad"),
    ):
        for op in OPS:
            cells = [*of_part(runs, "grid", op=op), *of_part(runs, "small", op=op)]
            cells = [r for r in cells if peer in r["seconds"]]
            tell = short if peer == "uniform" else times
            show = lambda r, tell=tell, key=(peer, ours): tell(ratio(r, *key))  # noqa: E731
            tables.append((f"`{op}`: {name}", cells, show))
    return "\n".join(f"### {title}\n\n{by_dtype(cells, show)}" for title, cells, show in tables if cells)


def by_dtype(cells: list[Json], show: Callable[[Json], str]) -> str:
    """A line for each shape and a column for each dtype."""
    found: dict[str, dict[str, str]] = {}
    for r in cells:
        found.setdefault(shape_of(r), {})[r["dtype"]] = show(r)
    dtypes = [dtype for dtype in DTYPES if any(dtype in line for line in found.values())]
    lines = [[shape, *(line.get(dtype, "–") for dtype in dtypes)] for shape, line in found.items()]
    return rows(["", *dtypes], lines)


def bounds_table(runs: Runs) -> str:
    """What is asked of softgrad, and what was measured."""
    lines = []
    for b in bounds(runs["grid"]["records"]):
        where = "" if "mean" in b.asked else f": {len(b.missed)} of {len(b.values)}"
        met = f"**no**{where}" if b.missed else "yes"
        lines.append([b.name, b.asked, f"{b.worst:.3g}", met])
    return rows(["", "asked", "worst cell", "met"], lines)


# --- results/torch_grid.json ----------------------------------------------------------------------------


def torch_speed(runs: Runs) -> str:
    """softgrad.torch's time through autograd, divided by that of others."""
    found: dict[int, dict[str, list[Json]]] = {}  # by threads, and by the line of the table
    for c in runs["torch_grid"]["cells"]:
        if line := line_of(c):
            found.setdefault(c["threads"], {}).setdefault(line, []).append(c)
    header = [f"{number} thread{'s' * (number > 1)}" for number in found]
    lines = [[line, *(ratios(by_line[line]) for by_line in found.values())] for line in found[1]]
    return f"{measured_on(runs['torch_grid'])}\n{rows(['softgrad.torch beside', *header], lines)}"


def line_of(cell: Json) -> str:
    """The line of the table that a cell goes into: only large tensors do, and the smallest."""
    if cell["what"] != "both":
        return f"the entmax package, `{cell['map']}` {sizes_of(cell)}, {cell['what']}"
    size = math.prod(cell["shape"])
    which = "more than 100,000 numbers" if size > 1e5 else sizes_of(cell) if size < 100 else ""
    return which and f"PyTorch, `softmax` and `log_softmax`, {which}"


def sizes_of(cell: Json) -> str:
    return " × ".join(map(str, cell["shape"]))


def ratios(cells: list[Json]) -> str:
    """One ratio, or of several the mean, the range, and how many are above 1."""
    mean = short(geometric_mean([c["ratio"] for c in cells]))
    if len(cells) == 1:
        return mean
    low, *_, high = sorted(cells, key=lambda c: c["ratio"])
    ends = " to ".join(f"{short(c['ratio'])} ({sizes_of(c)} {c['dtype']})" for c in (low, high))
    return f"{mean}, from {ends}; above 1 in {sum(c['ratio'] > 1 for c in cells)} of {len(cells)}"


BLOCKS: dict[str, Callable[[Runs], str]] = {
    "machine": lambda runs: measured_on(runs["grid"]),
    "exactness": exactness,
    "speed": speed,
    "beside_pytorch": beside_pytorch,
    "grid": grid,
    "bounds": bounds_table,
    "torch_speed": torch_speed,
}
# The files, and the blocks that each must have
NEEDED = {
    "README.md": ("machine", "exactness", "speed"),
    "docs/benchmarks.md": ("machine", "grid", "bounds"),
    "docs/torch.md": ("torch_speed",),
}


def renewed(name: str, text: str, runs: Runs) -> str:
    """A file with its blocks written anew."""
    names = {match[2] for match in BLOCK.finditer(text)}
    if lacking := [block for block in NEEDED[name] if block not in names]:
        marks = ", ".join(f"<!-- generated: {block} --> … <!-- end -->" for block in lacking)
        sys.exit(f"{name} lacks {marks}: put the marks, each on a line, where the block should be")
    if unknown := sorted(names - BLOCKS.keys()):
        sys.exit(f"{name} asks for {', '.join(unknown)}; there are {', '.join(BLOCKS)}")
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]](runs)}{match[4]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    paths = {path.stem: path for path in (HERE / "results").glob("*.json")}
    runs = {name: json.loads(path.read_text()) for name, path in paths.items()}
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in NEEDED}
    new = {name: renewed(name, text, runs) for name, text in texts.items()}
    if options.check:
        for name, text in texts.items():
            if new[name] != text:
                sys.exit(f"{name} is not what benchmarks/results says: run benchmarks/readme.py")
        return
    for name, text in new.items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
