"""Write the figures of README.md and docs/ from the runs in results/.

No figure is copied by hand: the text between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced by
the block of that name.

    python benchmarks/readme.py            writes them
    python benchmarks/readme.py --check    exits with 1 if that would change them
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import scale
from bounds import bounds, of_part, ratio, shape_of

from softgrad.bench.report import library
from softgrad.commands.units import BYTES, SECONDS, with_unit

HERE = Path(__file__).parent
FILES = "README.md", *(f"docs/{name}.md" for name in ("benchmarks", "torch", "jax", "distributed", "gpu"))
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

LIBRARIES = "softgrad", "numpy", "scipy", "torch", "jax"
PACKAGES = "numpy", "numba", "scipy", "torch", "jax", "entmax", "dask", "zarr"
DTYPES = "float16", "bfloat16", "float32", "float64"
OPS = "softmax", "softmax_vjp"
THREADS = {"grid": "one thread", "threads": "two threads"}  # by the part of a record

Json = dict[str, Any]
Runs = dict[str, Json]  # the content of results/NAME.json, by NAME


def table(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """In Markdown, the first column to the left and the others to the right."""
    header = list(header)
    marks = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *lines)) + "\n"


def short(value: float) -> str:
    """Three digits, or a power of ten."""
    if value >= 1e4:
        return "10" + str(math.floor(math.log10(value))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def times(value: float) -> str:
    """A ratio, bold where softgrad is the slower one."""
    return f"{short(value)}×" if value >= 1 else f"**{short(value)}×**"


def machine_of(run: Json) -> str:
    about = run["environment"]
    vectors = f" ({about['instructions']})" if "instructions" in about else ""
    versions = ", ".join(f"{library(package)} {about[package]}" for package in PACKAGES if package in about)
    return (
        f"Measured on {about['date']} with {about['cores']} cores of an {about['cpu']}{vectors}: "
        f"softgrad {about['softgrad']}, Python {about['python']}, {versions}.\n"
    )


# --- results/accuracy.json ------------------------------------------------------------------------------


def exactness(runs: Runs, dtypes: tuple[str, ...] = ("bfloat16", "float32")) -> str:
    """How many of the hard cases each library misses, and its worst error."""
    records = runs["accuracy"]["records"]
    by_key = {(r["operation"], r["dtype"], r["implementation"]): r for r in records}

    def cell(r: Json | None) -> str:
        return "–" if r is None else f"{r['missed']} ({'∞' if r['worst'] is None else short(r['worst'])})"

    lines = [
        [f"`{op}` {dtype}, {unit}", *(cell(by_key.get((op, dtype, library))) for library in LIBRARIES)]
        for op, unit in zip(OPS, ("ulp", "eps"), strict=True)
        for dtype in dtypes
    ]
    return table([f"cases missed, of {records[0]['cases']} (worst error)", *map(library, LIBRARIES)], lines)


# --- results/grid.json ----------------------------------------------------------------------------------

# The cells of the README's table
SHOWN = [
    ([32, 512], -1, "float64"),
    ([1000, 1000], -1, "float32"),
    ([8, 128256], -1, "bfloat16"),
    ([3000, 4096], 0, "float32"),
]


def own_time(r: Json) -> str:
    return with_unit(r["seconds"]["softgrad"], SECONDS)


def speed(runs: Runs) -> str:
    """Some cells: softgrad's time, and the others' as multiples of it."""
    lines = []
    for shape, axis, dtype in SHOWN:
        for r in of_part(runs["grid"]["records"], "grid", shape=shape, axis=axis, dtype=dtype):
            others = (times(ratio(r, peer)) if peer in r["seconds"] else "–" for peer in ("torch", "numpy"))
            lines.append([f"`{r['op']}` {shape_of(r)}, {dtype}", own_time(r), *others])
    return table(["one thread", "softgrad", "PyTorch", "NumPy"], lines)


def beside_pytorch(runs: Runs) -> str:
    """All cells of the grid in a sentence for each number of threads."""
    text = ""
    for part, threads in THREADS.items():
        if ratios := [ratio(r) for r in of_part(runs["grid"]["records"], part)]:
            text += (
                f"With {threads} PyTorch takes {short(geometric_mean(ratios))} times softgrad's time, "
                f"the geometric mean of {len(ratios)} cells (from {short(min(ratios))} to "
                f"{short(max(ratios))}); softgrad is the slower one in {sum(r < 1 for r in ratios)}.\n"
            )
    return text


def grid(runs: Runs) -> str:
    """Every cell: a table for each function and number of threads, and one for each other peer and input."""
    measured, text = runs["grid"]["records"], []
    for (part, threads), op in itertools.product(THREADS.items(), OPS):
        title = f"`{op}`, {threads}: softgrad's time, and PyTorch's as a multiple"
        records = of_part(measured, part, op=op)
        text.append(by_dtype(title, {place(r): f"{own_time(r)}, {times(ratio(r))}" for r in records}))
    normal = "the time for dy uniform on (0, 1) as a multiple of that for normal dy"
    for peer, title, ours, tell in (
        ("torch saturated", "PyTorch's time as a multiple, saturated rows (logits ×10)", "saturated", times),
        ("uniform", normal, "softgrad", short),
        ("onednn", "oneDNN's time as a multiple", "softgrad", times),
        ("numpy", "the time of NumPy's closed form as a multiple", "softgrad", times),
    ):
        for op in OPS:
            records = [r for part in ("grid", "small") for r in of_part(measured, part, peer, op=op)]
            cells = {place(r): tell(ratio(r, peer, ours)) for r in records}
            text.append(by_dtype(f"`{op}`: {title}", cells))
    return "\n".join(filter(None, text))


def place(r: Json) -> tuple[str, str]:
    """The line and the column of a record."""
    return shape_of(r), r["dtype"]


def by_dtype(title: str, cells: dict[tuple[str, str], str]) -> str:
    """A line for each shape and a column for each dtype, under the title; nothing without cells."""
    dtypes = [dtype for dtype in DTYPES if any(of_cell == dtype for _, of_cell in cells)]
    shapes = dict.fromkeys(shape for shape, _ in cells)
    lines = ([s, *(cells.get((s, dtype), "–") for dtype in dtypes)] for s in shapes)
    return f"### {title}\n\n{table(['', *dtypes], lines)}" if cells else ""


def bounds_table(runs: Runs) -> str:
    """Each bound, and its worst cell."""
    lines = []
    for b in bounds(runs["grid"]["records"]):
        where = "" if "mean" in b.asked else f": {len(b.missed)} of {len(b.values)}"
        lines.append([b.name, b.asked, f"{b.worst:.3g}", f"**no**{where}" if b.missed else "yes"])
    return table(["", "asked", "worst cell", "met"], lines)


# --- results/torch_grid.json ----------------------------------------------------------------------------


def torch_speed(runs: Runs) -> str:
    """softgrad.torch's time through autograd, divided by that of others."""
    by_line: dict[str, dict[int, list[Json]]] = {}  # by the line of the table, and the threads
    for c in runs["torch_grid"]["cells"]:
        if line := line_of(c):
            by_line.setdefault(line, {}).setdefault(c["threads"], []).append(c)
    threads = sorted({number for by_threads in by_line.values() for number in by_threads})
    header = ["softgrad.torch beside", *(f"{number} thread{'s' * (number > 1)}" for number in threads)]
    lines = ([line, *(ratios(cells[number]) for number in threads)] for line, cells in by_line.items())
    return f"{machine_of(runs['torch_grid'])}\n{table(header, lines)}"


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


# --- results/jax_grid.json ------------------------------------------------------------------------------


def jax_speed(runs: Runs) -> str:
    """The time of softgrad.jax under jit, and how many times as long jax.nn's functions take."""
    by_line: dict[str, list[str]] = {}
    for c in runs["jax_grid"]["cells"]:
        of = f"`{c['map']}`, {sizes_of(c)}, {c['dtype']}"
        by_line.setdefault(of, []).append(f"{with_unit(c['ours'], SECONDS)}, {times(c['ratio'])}")
    header = ["", "forward", "forward and backward"]
    return f"{machine_of(runs['jax_grid'])}\n{table(header, ([of, *cells] for of, cells in by_line.items()))}"


# --- results/shards.json --------------------------------------------------------------------------------


def shards(runs: Runs) -> str:
    """The time of rows that are divided, and how many times as long DTensor and a gather take."""
    header = ["", "softgrad", "DTensor's softmax", "gathered by hand"]
    lines = (
        [
            f"{c['processes']} processes, {sizes_of(c)}, {c['dtype']}",
            with_unit(c["softgrad"], SECONDS),
            *(times(c[name] / c["softgrad"]) for name in ("dtensor", "gathered")),
        ]
        for c in runs["shards"]["cells"]
    )
    return f"{machine_of(runs['shards'])}\n{table(header, lines)}"


# --- results/gpu.json -----------------------------------------------------------------------------------

NO_GPU = (
    "No GPU has been available so far: the tests interpret and compile the Triton kernels for CUDA tensors, "
    "which **have never run on a GPU**.\n"
)


def gpu_line(runs: Runs) -> str:
    if "gpu" not in runs:
        return NO_GPU
    run = runs["gpu"]
    shares = [r["limit_ratio"]["median"] for r in gpu_records(run, "softgrad", OPS, run["fill"])]
    text = f"The Triton kernels pass {passed(run)} on {run['environment']['gpu']}"
    if shares:
        mean = short(geometric_mean(shares))
        text += f"; softmax and its vjp reach {mean} of a device copy's speed, the geometric mean over n"
    return f"{text}: [docs/gpu.md](docs/gpu.md).\n"


def gpu(runs: Runs) -> str:
    """What gpu_record.py was told, in docs/gpu.md."""
    if "gpu" not in runs:
        return NO_GPU
    run = runs["gpu"]
    about, answers = run["environment"], {a["job"]: a for a in run["answers"]}
    copies = ", ".join(
        f"{a['bytes_per_second'] / 1e12:.3g} TB/s for {with_unit(int(job.split()[1]), BYTES)}"
        for job, a in answers.items()
        if job.startswith("copy")
    )
    failed = [f"`{job}`" for job, a in answers.items() if "error" in a or a.get("passed") is False]
    records = [r for a in run["answers"] for r in a.get("records", [])]
    untimed = {f"{library(r['implementation'])}: {r['left_out']}": None for r in records if r["left_out"]}
    sanitizer = answers.get("sanitize", {"left_out": "for want of time"})
    return "\n".join(
        [
            f"Measured on {about['date']} on {about['gpu']}: softgrad {about['softgrad']}, Python "
            f"{about['python']}, PyTorch {about['torch']}, Triton {about['triton']}. "
            f"A device copy reaches {copies}, read and written.\n",
            f"{passed(run)} pass; {len(run['left'])} jobs are left for want of time. compute-sanitizer: "
            f"{sanitizer.get('left_out', 'it ran')}. Failed: {', '.join(failed) or 'none'}. "
            f"Not timed: {'; '.join(untimed) or 'none'}.\n",
            gpu_bounds(run),
            "![Share of a copy's speed against n](gpu.svg)\n",
            "## Share of a device copy's speed\n",
            *gpu_tables(gpu_records(run)),
        ]
    )


def gpu_tables(records: list[Json]) -> list[str]:
    """The share of a copy's speed: a table for each function and dtype, a column for each implementation."""
    tables: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for r in records:
        lines = tables.setdefault((r["op"], r["dtype"]), {})
        lines.setdefault(sizes_of(r), {})[r["implementation"]] = f"{r['limit_ratio']['median']:.2f}"
    text = []
    for (op, dtype), lines in tables.items():
        names = dict.fromkeys(name for line in lines.values() for name in line)
        cells = ([size, *(line.get(name, "–") for name in names)] for size, line in lines.items())
        text.append(f"### `{op}`, {dtype}\n\n{table(['rows × n', *map(library, names)], cells)}")
    return text


def passed(run: Json) -> str:
    checks = [a for a in run["answers"] if a["job"].startswith("check")]
    return f"{sum(bool(a.get('passed')) for a in checks)} of {len(checks)} checks"


def gpu_records(
    run: Json, implementation: str | None = None, ops: Iterable[str] = (), size: int = 0
) -> list[Json]:
    """The timed records: of an implementation, of functions, of arrays of so many elements."""
    return [
        r
        for a in run["answers"]
        for r in a.get("records", [])
        if r["limit_ratio"]
        and implementation in (None, r["implementation"])
        and (not ops or r["op"] in ops)
        and size in (0, math.prod(r["shape"]))
    ]


def gpu_bounds(run: Json) -> str:
    """What is asked for, and the worst that was measured."""

    def shares(low: int, high: int, ops: Iterable[str] = OPS) -> list[float]:
        own = gpu_records(run, "softgrad", ops, run["fill"])
        return [r["limit_ratio"]["median"] for r in own if low <= r["shape"][1] <= high]

    def times(*names: str, op: str = "", shape: list[int] | None = None) -> list[float]:
        others = [r for name in names for r in gpu_records(run, name, [op] if op else OPS)]
        return [r["ratio"]["median"] for r in others if r["ratio"] and shape in (None, r["shape"])]

    launches = [a["seconds"]["median"] for a in run["answers"] if a["job"] == "launch" and "seconds" in a]
    compilers = times("torch.compile", "liger", "quack")
    asked = [
        ("share of a copy, n from 1,024 to 16,384", 0.9, shares(1024, 16384)),
        ("share of a copy, n from 64 to 32,768", 0.8, shares(64, 32768)),
        ("`softmax` of longer rows, which are read twice", 0.6, shares(65536, 1 << 30, OPS[:1])),
        ("`softmax_vjp` of longer rows", 0.54, shares(65536, 1 << 30, OPS[1:])),
        ("PyTorch's time / softgrad's, `softmax_vjp`", 1.5, times("torch", op="softmax_vjp")),
        ("PyTorch's time / softgrad's, 8 × 262144", 2.0, times("torch", shape=[8, 262144])),
        ("torch.compile's, Liger's, QuACK's time / softgrad's", 1.0, compilers),
        ("20 µs / a launch's time in Python", 1.0, [20e-6 / seconds for seconds in launches]),
    ]
    lines = [
        [name, f"≥ {bound:g}", f"{min(found):.3g}", "yes" if min(found) >= bound else "**no**"]
        for name, bound, found in asked
        if found
    ]
    return table(["", "asked", "worst", "met"], lines)


# --- results/dask_chunks.json and collectives.json --------------------------------------------------------


def dask_chunks(runs: Runs) -> str:
    """Seconds and memory of each way, on each layout."""
    if "dask_chunks" not in runs:
        return "Not measured yet.\n"
    run, lines = runs["dask_chunks"], {}
    for cell in run["cells"]:
        place = f"`{cell['op']}` {'×'.join(map(str, cell['shape']))} in {'×'.join(map(str, cell['chunk']))}"
        own = lines.setdefault(place, {})
        own[cell["way"]] = f"{cell['seconds']:.1f} s, {with_unit(cell['bytes'], BYTES)}"
    ways = {"softgrad": "softgrad", "rechunk": "rechunk, `map_blocks`", "dask": "Dask's formula"}
    text = table(
        ["float32, in chunks of", *ways.values()], [[p, *(o[w] for w in ways)] for p, o in lines.items()]
    )
    return f"{text}\n{machine_of(run)}"


def collectives(runs: Runs) -> str:
    """α and β of gloo."""
    run = runs["collectives"]
    lines = [
        [
            f"`{line['op']}`, {line['processes']} processes",
            with_unit(line["alpha"], SECONDS),
            f"{with_unit(line['beta'], BYTES)}/s",
            f"{line['off']:.0%}",
        ]
        for line in run["lines"]
    ]
    text = table(["gloo", "α", "β", "the line is off by up to"], lines)
    ratios = "; ".join(f"`{op}` {a:.2g} and {b:.2g}" for op, (a, b) in scale.off(run).items())
    return (
        f"{text}\nWith 4 processes, on {run['environment']['cores']} cores, the model made of 2 gives, as a "
        f"multiple of what is measured, for 64 bytes and 4 MB: {ratios}.\n\n{machine_of(run)}"
    )


def scale_table(runs: Runs) -> str:
    """Time and bytes by the model, forward and backward."""
    found, text = scale.models(runs["collectives"]), []
    for title, *work in scale.WORK:
        lines = []
        for p in scale.SHOWN:
            pairs = [scale.seconds(model, p, *work) for model in found.values()]
            sizes = [with_unit(size, BYTES) for size in scale.sent(p, *work)]
            lines.append([str(p), *sizes, *(with_unit(t, SECONDS) for pair in pairs for t in pair)])
        columns = [f"{what}, {name}" for name in found for what in ("numbers", "rows")]
        header = [f"{title}: shards", "numbers sent", "rows sent", *columns]
        text.append(table(header, lines))
    return "\n".join(text)


def picture(run: Json) -> bytes:
    """The share of a copy's speed that each reaches on arrays that fill the chip, against n."""
    from matplotlib.figure import Figure

    from softgrad.bench import plot

    drawn = Figure((13, 8), layout="constrained")
    panels = drawn.subplots(2, 2).flat
    for axes, (dtype, op) in zip(panels, itertools.product(("bfloat16", "float32"), OPS), strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for r in sorted(gpu_records(run, None, [op], run["fill"]), key=lambda r: r["shape"][1]):
            if r["dtype"] == dtype:
                lines.setdefault(r["implementation"], []).append((r["shape"][1], r["limit_ratio"]["median"]))
        plot.panel(axes, lines, f"{op}, {dtype}: share of a copy's speed", (("", 1.0),))
    return plot.save(drawn, "svg")


BLOCKS: dict[str, Callable[[Runs], str]] = {
    "machine": lambda runs: machine_of(runs["grid"]),
    "exactness": exactness,
    "exactness_all": lambda runs: exactness(runs, DTYPES),
    "speed": speed,
    "beside_pytorch": beside_pytorch,
    "grid": grid,
    "bounds": bounds_table,
    "torch_speed": torch_speed,
    "jax_speed": jax_speed,
    "shards": shards,
    "dask_chunks": dask_chunks,
    "collectives": collectives,
    "scale": scale_table,
    "gpu": gpu,
    "gpu_line": gpu_line,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    runs = {path.stem: json.loads(path.read_text()) for path in (HERE / "results").glob("*.json")}
    for name in FILES:
        path = HERE.parent / name
        text = path.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]](runs)}{match[4]}", text)
        if check and new != text:
            sys.exit(f"{name} is not what benchmarks/results says: run benchmarks/readme.py")
        if not check:
            path.write_text(new, encoding="utf-8")
    if not check:
        (HERE.parent / "docs" / "scale.svg").write_bytes(scale.picture(runs["collectives"]))
    if "gpu" in runs and not check:
        (HERE.parent / "docs" / "gpu.svg").write_bytes(picture(runs["gpu"]))


if __name__ == "__main__":
    main()
