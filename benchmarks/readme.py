"""Write the figures of README.md and docs/torch.md, and the picture, from the runs in results/.

None is copied by hand: what lies between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced by the
block of that name.

    python benchmarks/readme.py            writes them, and docs/bench.svg
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

import picture
from bounds import geometric_mean

from softgrad.commands.words import SECONDS, in_words

HERE = Path(__file__).parent
ROOT = HERE.parent
PICTURE = ROOT / "docs" / "bench.svg"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

LIBRARIES = {"softgrad": "softgrad", "numpy": "NumPy", "scipy": "SciPy", "torch": "PyTorch", "jax": "JAX"}
DTYPES = "float16", "bfloat16", "float32", "float64"

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


def machine(runs: Runs) -> str:
    return measured_on(runs["grid"])


def measured_on(run: Json) -> str:
    found = run["environment"]
    names = {"numpy": "NumPy", "numba": "Numba", "scipy": "SciPy", "torch": "PyTorch", "jax": "JAX"}
    names |= {"entmax": "entmax"}
    versions = ", ".join(f"{names[key]} {found[key]}" for key in names if key in found)
    return (
        f"Measured on {found['date']} with {found['cores']} cores of an {found['cpu']}: "
        f"softgrad {found['softgrad']}, Python {found['python']}, {versions}.\n"
    )


def exactness(runs: Runs) -> str:
    """How many of the hard cases each library misses, and its worst error."""
    found = {(r["operation"], r["dtype"], r["implementation"]): r for r in runs["accuracy"]["records"]}
    lines = []
    for operation, unit in (("softmax", "ulp"), ("softmax_vjp", "eps")):
        for dtype in DTYPES:
            line = [f"`{operation}` {dtype}, {unit}"]
            for library in LIBRARIES:
                r = found.get((operation, dtype, library))
                worst = "–" if r is None else "∞" if r["worst"] is None else short(r["worst"])
                line.append(worst if r is None else f"{r['missed']} ({worst})")
            lines.append(line)
    total = next(r["cases"] for r in runs["accuracy"]["records"])
    return rows([f"cases missed, of {total} (worst error)", *LIBRARIES.values()], lines)


def speed(runs: Runs) -> str:
    """Each library as it is called: softgrad's time, and the others' as multiples of it."""
    found: dict[tuple[Any, ...], dict[str, Json]] = {}
    for r in runs["grid"]["records"]:
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


def beside_pytorch(runs: Runs) -> str:
    """All cells of the grid: means over the dtypes, and the smallest ratio."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for r in runs["grid"]["records"]:
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


def bounds(runs: Runs) -> str:
    """What softgrad was asked to reach, and what was measured."""
    lines = [
        [b["name"], b["asked"], short(b["measured"]), "yes" if b["met"] else "**no**"]
        for b in runs["grid"]["bounds"]
    ]
    return rows(["", "asked", "measured", "met"], lines)


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
        return f"the entmax package, `{cell['map']}` {shape_of(cell)}, {cell['what']}"
    size = math.prod(cell["shape"])
    which = "more than 100,000 numbers" if size > 1e5 else shape_of(cell) if size < 100 else ""
    return which and f"PyTorch, `softmax` and `log_softmax`, {which}"


def shape_of(cell: Json) -> str:
    return " × ".join(map(str, cell["shape"]))


def ratios(cells: list[Json]) -> str:
    """One ratio, or of several the mean, the range, and how many are above 1."""
    mean = short(geometric_mean([c["ratio"] for c in cells]))
    if len(cells) == 1:
        return mean
    low, *_, high = sorted(cells, key=lambda c: c["ratio"])
    ends = " to ".join(f"{short(c['ratio'])} ({shape_of(c)} {c['dtype']})" for c in (low, high))
    return f"{mean}, from {ends}; above 1 in {sum(c['ratio'] > 1 for c in cells)} of {len(cells)}"


BLOCKS: dict[str, Callable[[Runs], str]] = {
    "machine": machine,
    "exactness": exactness,
    "speed": speed,
    "beside_pytorch": beside_pytorch,
    "bounds": bounds,
    "torch_speed": torch_speed,
}
# The files, and the blocks that each must have
NEEDED = {"README.md": ("machine", "exactness", "speed"), "docs/torch.md": ("torch_speed",)}


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
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    runs = {path.stem: json.loads(path.read_text()) for path in (HERE / "results").glob("*.json")}
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in NEEDED}
    new = {name: renewed(name, text, runs) for name, text in texts.items()}
    grid = runs["grid"]
    if options.check:
        drawn = f'data-figures="{picture.mark(grid)}"'
        if not PICTURE.exists() or drawn not in PICTURE.read_text(encoding="utf-8"):
            sys.exit("docs/bench.svg is not drawn from benchmarks/results: run benchmarks/readme.py")
        for name, text in texts.items():
            if new[name] != text:
                sys.exit(f"{name} is not what benchmarks/results says: run benchmarks/readme.py")
        return
    PICTURE.write_bytes(picture.svg(grid))
    for name, text in new.items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
