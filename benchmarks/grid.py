"""Speed: softgrad beside PyTorch over a grid of shapes, beside all libraries on some, and what a call costs.

    python benchmarks/grid.py            writes results/grid.json, in some ten minutes
    python benchmarks/grid.py --quick    a look, in some two minutes; written only with --output FILE

The records are those of `softgrad bench`: samples taken in turns, ratios of neighbouring samples, and the
limit of the machine among them.  Between the samples of libraries with more than one thread there is a pause,
and a call that is not timed: OpenMP's threads go on waiting busily for some milliseconds, which would slow
down whoever comes next.  What was measured while other processes kept the processors busy is measured again,
up to three times, and the quietest counts.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import startup
from bounds import bounds
from records import as_text

import softgrad
from softgrad import threads as softgrad_threads
from softgrad.bench import compare, implementations, measure
from softgrad.bench.cases import Case
from softgrad.commands import machine
from softgrad.commands.progress import Bar

HERE = Path(__file__).parent

OPS = "softmax", "softmax_vjp"
DTYPES = "float16", "bfloat16", "float32", "float64"
LAST = [
    (32, 512), (256, 512), (1000, 1000), (4096, 4096), (8, 128256), (50000, 64), (200000, 8), (700, 37),
]  # fmt: skip
FIRST = [(1024, 1024), (3000, 4096), (64, 100)]
SHAPES = [(shape, -1) for shape in LAST] + [(shape, 0) for shape in FIRST]
THREADS = 1, 2

# Beside all libraries: what the README's first table shows
TABLE = [
    ((32, 512), -1, "float64"),
    ((1000, 1000), -1, "float32"),
    ((4096, 4096), -1, "float32"),
    ((8, 128256), -1, "bfloat16"),
    ((200000, 8), -1, "float32"),
    ((3000, 4096), 0, "float32"),
]
EVERYONE = "softgrad", "numpy", "jacobian", "scipy", "torch", "jax"

EFFORT = compare.Effort(rounds=61, fewest=9, budget=0.6, tries=3)
QUICK = compare.Effort(rounds=9, fewest=3, budget=0.1, tries=1)

Record = dict[str, Any]


def records(effort: compare.Effort, bar: Bar) -> list[Record]:
    """Every shape, dtype, direction and number of threads."""
    every = [
        Case(op, shape, axis, dtype, threads)
        for threads in THREADS
        for shape, axis in SHAPES
        for dtype in DTYPES
        for op in OPS
    ]
    table = [case for case in every if case.threads == 1 and (case.shape, case.axis, case.dtype) in TABLE]
    others = [case for case in every if case not in table]
    found = []
    for cases, names in ((table, EVERYONE), (others, ("softgrad", "torch"))):
        found += compare.run(compare.Settings(cases, names, effort), {}, bar).records
    return [dataclasses.asdict(record) for record in found]


def kernel_alone(call: measure.Call) -> measure.Call:
    """The compiled kernel that a call ends in, with the arguments it was given."""
    seen = []
    share = softgrad_threads.share

    def spy(kernel: Any, arguments: Any, tiles: int, *rest: Any) -> Any:
        seen.append((kernel, (*arguments, 0, tiles)))
        return share(kernel, arguments, tiles, *rest)

    softgrad_threads.share = spy
    try:
        call()
    finally:
        softgrad_threads.share = share
    (kernel, arguments), = seen  # fmt: skip
    return lambda: kernel(*arguments)


def overhead(bar: Bar, budget: float) -> Iterator[Record]:
    """What Python adds to the kernel, on arrays that take it no time."""
    bar.phase("Python's share of a call")
    softgrad.set_num_threads(1)
    for shape, axis in (((1, 8), -1), ((4, 4), -1), ((4, 4), 0)):
        for dtype in DTYPES:
            for op in OPS:
                case = Case(op, shape, axis, dtype, 1)
                call = implementations.ready("softgrad", implementations.OUT, case, case.arguments()).call
                calls = {"call": call, "kernel": kernel_alone(call)}
                samples = measure.interleaved(calls, rounds=41, budget=budget)
                pairs = zip(samples["call"], samples["kernel"], strict=True)
                yield {
                    "op": op,
                    "shape": shape,
                    "axis": axis,
                    "dtype": dtype,
                    "seconds": vars(measure.spread([whole - part for whole, part in pairs])),
                    "call": vars(measure.spread(samples["call"])),
                    "kernel": vars(measure.spread(samples["kernel"])),
                }


def run(quick: bool) -> dict[str, Any]:
    phases = len(SHAPES) * len(DTYPES) * len(OPS) * len(THREADS)
    ways = 2 if quick else len(startup.WAYS) * len(startup.DTYPES)
    with Bar(phases + 2 + ways) as bar:
        found = {
            "environment": machine.environment("numpy", "numba", "scipy", "torch", "jax"),
            "records": records(QUICK if quick else EFFORT, bar),
            "overhead": list(overhead(bar, 0.05 if quick else 0.25)),
        }
        bar.phase("import softgrad")
        seconds = startup.import_seconds(5 if quick else 15)
        found["import"] = {"seconds": vars(measure.spread(seconds))}
        found["first_calls"] = startup.first_calls(quick, bar.phase)
    return {**found, "bounds": bounds(found)}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = run(options.quick)
    output = options.output or (None if options.quick else HERE / "results" / "grid.json")
    if output is not None:
        output.parent.mkdir(exist_ok=True)
        output.write_text(as_text(result))
    if disturbed := sum(r["others"] > compare.DISTURBED for r in result["records"]):
        print(f"{disturbed} records were measured beside busy processes: run it again")
    for r in result["records"]:
        if r["left_out"]:
            print(f"left out: {r['implementation']}, {r['op']} {r['shape']} {r['dtype']}: {r['left_out']}")
    for b in result["bounds"]:
        print(f"{'met   ' if b['met'] else 'MISSED'} {b['name']}: {b['measured']:.3g}, asked {b['asked']}")
        for text in b["missed"]:
            print(f"         {text}")


if __name__ == "__main__":
    main()
