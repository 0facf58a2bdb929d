"""Speed: softgrad beside PyTorch over a grid of shapes, beside the other libraries, and beside the machine.

    python benchmarks/grid.py            writes results/grid.json, in less than ten minutes
    python benchmarks/grid.py --quick    a look, in some two minutes; written only with --output FILE

All comparisons are of samples taken in turns in one loop, and all ratios are medians of the ratios of
neighbouring samples.  Above 1 means that softgrad is faster.  Between the samples of libraries with more
than one thread there is a pause, and a call that is not timed: OpenMP's threads go on waiting busily for
some milliseconds, which would slow down whoever comes next.  What was measured while other processes kept
the processors busy is measured again, up to three times, and the quietest counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numba
import numpy as np
import peers
import startup
from bounds import bounds

import softgrad
from softgrad import threads as softgrad_threads
from softgrad.bench import judges, measure, reproduce
from softgrad.commands import machine
from softgrad.commands.progress import Bar

HERE = Path(__file__).parent

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
LAST = [
    (32, 512), (256, 512), (1000, 1000), (4096, 4096), (8, 128256), (50000, 64), (200000, 8), (700, 37),
]  # fmt: skip
FIRST = [(1024, 1024), (3000, 4096), (64, 100)]
SHAPES = [(shape, -1) for shape in LAST] + [(shape, 0) for shape in FIRST]
THREADS = 1, 2
PAUSE = 0.003
DISTURBED = 0.2  # processors that others kept busy

# Beside all libraries, as they are called: the result is a new array.
TABLE = [
    ((32, 512), -1, "float64"),
    ((1000, 1000), -1, "float32"),
    ((4096, 4096), -1, "float32"),
    ((8, 128256), -1, "bfloat16"),
    ((200000, 8), -1, "float32"),
    ((3000, 4096), 0, "float32"),
]

Record = dict[str, Any]


def numbers(shape: tuple[int, ...], axis: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y = softmax(x), dy."""
    rng = np.random.default_rng(42)
    x, dy = (rng.standard_normal(shape, np.float32).astype(dtype) for _ in range(2))
    return x, softgrad.softmax(x, axis=axis), dy


def use_threads(number: int) -> None:
    softgrad.set_num_threads(number)
    judges.torch_if_installed().set_num_threads(number)


def in_turns(calls: dict[str, peers.Call], **options: Any) -> tuple[measure.Samples, float]:
    return measure.quietest(lambda: measure.interleaved(calls, **options))


def records_of(cell: Record, found: tuple[measure.Samples, float]) -> list[Record]:
    """One record for each implementation; `ratio` is its time beside softgrad's."""
    samples, others = found
    return [
        {
            **cell,
            "implementation": name,
            "processors_kept_busy_by_others": round(others, 3),
            "seconds": vars(measure.spread(found)),
            "ratio": vars(measure.spread(measure.ratios(found, samples["softgrad"]))),
        }
        for name, found in samples.items()
    ]


def cell_of(op: str, shape: tuple[int, ...], axis: int, dtype: str, threads: int = 1) -> Record:
    return {"op": op, "shape": shape, "axis": axis, "dtype": dtype, "threads": threads}


def grid(bar: Bar, budget: float) -> Iterator[Record]:
    """Into ready outputs: every shape, dtype, direction and number of threads."""
    for shape, axis in SHAPES:
        for name, dtype in DTYPES.items():
            bar.phase(f"beside PyTorch: {shape[0]} × {shape[1]}, axis {axis}, {name}")
            x, y, dy = numbers(shape, axis, dtype)
            for threads in THREADS:
                use_threads(threads)
                pause = PAUSE if threads > 1 else 0.0
                for op, calls in (
                    ("softmax", peers.softmax_into(x, axis)),
                    ("softmax_vjp", peers.vjp_into(y, dy, axis)),
                ):
                    found = in_turns(calls, rounds=61, fewest=9, budget=budget, pause=pause)
                    yield from records_of(cell_of(op, shape, axis, name, threads), found)


def table(bar: Bar, budget: float) -> Iterator[Record]:
    """All libraries, each as it is called, with one thread; JAX keeps to that on one processor only."""
    use_threads(1)
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})
    for shape, axis, name in TABLE:
        bar.phase(f"beside all libraries: {shape[0]} × {shape[1]}, axis {axis}, {name}")
        x, y, dy = numbers(shape, axis, DTYPES[name])
        for op, call_of in (
            ("softmax", functools.partial(peers.softmax, x=x, axis=axis)),
            ("softmax_vjp", functools.partial(peers.vjp, y=y, dy=dy, axis=axis)),
        ):
            calls = {library: call for library in peers.LIBRARIES if (call := call_of(library)) is not None}
            found = in_turns(calls, rounds=31, fewest=7, budget=3 * budget)
            yield from records_of(cell_of(f"{op}, new array", shape, axis, name), found)
    os.sched_setaffinity(0, processors)


@numba.njit
def triad(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    for i in range(a.size):
        c[i] = a[i] * b[i]


def limits(bar: Bar, budget: float) -> Iterator[Record]:
    """The time the machine takes to move the bytes: y, dy and dx by a triad, x and y by a copy."""
    bar.phase("beside the limits of the machine")
    use_threads(1)
    shape = 4096, 4096
    x, y, dy = numbers(shape, -1, np.dtype(np.float32))
    out = np.empty_like(x)
    calls = {
        "softmax": peers.softmax_into(x, -1)["softgrad"],
        "copy": lambda: np.copyto(out, x),
        "softmax_vjp": peers.vjp_into(y, dy, -1)["softgrad"],
        "triad": lambda: triad(y.ravel(), dy.ravel(), out.ravel()),
        "softmax, new array": lambda: softgrad.softmax(x),
        "softmax_vjp, new array": lambda: softgrad.softmax_vjp(y, dy),
    }
    samples, others = in_turns(calls, rounds=41, fewest=9, budget=8 * budget)
    for op, found in samples.items():
        limit = samples["triad" if op.startswith(("softmax_vjp", "triad")) else "copy"]
        yield {
            **cell_of(f"{op} beside its limit", shape, -1, "float32"),
            "implementation": "softgrad" if op.startswith("softmax") else "the machine",
            "processors_kept_busy_by_others": round(others, 3),
            "seconds": vars(measure.spread(found)),
            "limit_ratio": vars(measure.spread(measure.ratios(limit, found))),
        }


def article(bar: Bar, budget: float) -> Iterator[Record]:
    """The article's ways at its size."""
    bar.phase("the article's Jacobian")
    use_threads(1)
    settings = reproduce.Settings()
    _, y, dy = reproduce.inputs(settings, settings.features)
    out = np.empty_like(y)
    calls = {
        **reproduce.ways(settings, y, dy),
        "softgrad": lambda: softgrad.softmax_vjp(y, dy, out=out),
    }
    found = in_turns(calls, rounds=61, budget=10 * budget)
    yield from records_of(cell_of("the article's ways", (32, 512), -1, "float64"), found)


def kernel_alone(call: peers.Call) -> peers.Call:
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
    use_threads(1)
    for shape, axis in (((1, 8), -1), ((4, 4), -1), ((4, 4), 0)):
        for name, dtype in DTYPES.items():
            x, y, dy = numbers(shape, axis, dtype)
            for op, call in (
                ("softmax", peers.softmax_into(x, axis)["softgrad"]),
                ("softmax_vjp", peers.vjp_into(y, dy, axis)["softgrad"]),
            ):
                calls = {"call": call, "kernel": kernel_alone(call)}
                samples, _ = in_turns(calls, rounds=41, budget=budget)
                pairs = zip(samples["call"], samples["kernel"], strict=True)
                yield {
                    **cell_of(f"{op}: call less kernel", shape, axis, name),
                    "implementation": "softgrad",
                    "seconds": vars(measure.spread([whole - part for whole, part in pairs])),
                    "call": vars(measure.spread(samples["call"])),
                    "kernel": vars(measure.spread(samples["kernel"])),
                }


def memory(bar: Bar) -> Iterator[Record]:
    """The most in use at once beyond the inputs, less the result where that is a new array."""
    bar.phase("memory")
    use_threads(1)
    for rows in (2048, 4096):
        for axis in (-1, 0):
            x, y, dy = numbers((rows, 4096), axis, np.dtype(np.float32))
            calls = {
                "softmax, out=": peers.softmax_into(x, axis)["softgrad"],
                "softmax, new array": peers.softmax("softgrad", x, axis),
                "softmax_vjp, out=": peers.vjp_into(y, dy, axis)["softgrad"],
                "softmax_vjp, new array": peers.vjp("softgrad", y, dy, axis),
            }
            for op, call in calls.items():
                assert call is not None
                yield {
                    **cell_of(f"memory of {op}", (rows, 4096), axis, "float32"),
                    "implementation": "softgrad",
                    "bytes": measure.peak_memory(call) - (x.nbytes if op.endswith("new array") else 0),
                }


def run(quick: bool) -> dict[str, Any]:
    budget = 0.05 if quick else 0.25
    records: list[Record] = []
    ways = 2 if quick else len(startup.WAYS) * len(startup.DTYPES)
    with Bar(len(SHAPES) * len(DTYPES) + len(TABLE) + 5 + ways) as bar:
        for part in (grid, table, limits, article, overhead):
            records += part(bar, budget)
        records += memory(bar)
        bar.phase("import softgrad")
        seconds = startup.import_seconds(5 if quick else 15)
        spread = vars(measure.spread(seconds))
        records.append({**cell_of("import", (), -1, ""), "implementation": "softgrad", "seconds": spread})
        records += startup.first_calls(quick, bar.phase)
    return {
        "environment": machine.environment("numpy", "numba", "scipy", "torch", "jax"),
        "records": records,
        "bounds": bounds(records),
        "disturbed": sum(r.get("processors_kept_busy_by_others", 0) > DISTURBED for r in records),
    }


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
        output.write_text(json.dumps(result, indent=1) + "\n")
    if result["disturbed"]:
        print(f"{result['disturbed']} records were measured beside busy processes: run it again")
    for b in result["bounds"]:
        print(f"{'met   ' if b['met'] else 'MISSED'} {b['name']}: {b['measured']:.3g}, asked {b['asked']}")
        for text in b["missed"]:
            print(f"         {text}")


if __name__ == "__main__":
    main()
