"""Measure every bound of bounds.py in one run: softgrad beside PyTorch, oneDNN and NumPy, on the CPU.

    python benchmarks/grid.py            measures, prints, and writes results/grid.json
    python benchmarks/grid.py --check    prints which bounds results/grid.json meets
    python benchmarks/grid.py --only vjp --shapes 32x512,64x100:0 --dtypes float32 --seconds 0.2

A selection is written only with --json FILE.

Calls run in turns, each sample after a call of the same kind that is not timed; a record has the medians.
softgrad and PyTorch write into memory that is ready; NumPy's closed form has all its temporaries.  A cell
that misses a bound is measured again for four times as long, and the second result counts.  With two threads
PyTorch has a process of its own, since its waiting threads keep the second core busy; the processes take
turns.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import entmax
import llvmlite.binding
import numpy as np
import startup
import torch
from bounds import bounds, name_of
from records import as_text

import softgrad
from softgrad.bench import implementations, limits, timing
from softgrad.bench.cases import Case, dtype_of
from softgrad.bench.implementations import NEW, OUT
from softgrad.commands import machine
from softgrad.commands.units import SECONDS, with_unit

RESULTS = Path(__file__).parent / "results" / "grid.json"

OPS = "softmax", "softmax_vjp"
LAST = [
    (32, 512), (48, 300), (256, 512), (1000, 1000), (4096, 4096), (8, 128256), (50000, 64), (200000, 8),
    (160000, 10), (300000, 3), (700, 37),
]  # fmt: skip
FIRST = [(1024, 1024), (3000, 4096), (64, 100), (512, 32)]
SHAPES = [(shape, -1) for shape in LAST] + [(shape, 0) for shape in FIRST]
PIECES = [((256, 512), -1), ((1000, 1000), -1), ((50000, 64), -1), ((700, 37), -1), ((1024, 1024), 0)]
SPARSE = [((1000, 1000), -1), ((64, 32768), -1), ((1000, 1000), 0), ((32768, 64), 0)]
SMALL = [((1, 4), -1), ((2, 4), -1), ((4, 16), -1), ((8, 64), -1)]
LIMITED = (4096, 4096), "float32"  # measured beside a copy and a triad
SPINNING = 0.005  # seconds until OpenMP's threads have stopped waiting busily
BUSY = 0.3  # processors that other processes may use

VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "neon": "NEON"}  # the widest first

Record = dict[str, Any]
Array = np.ndarray
Call = Callable[[], object]
Calls = dict[str, Call]


# --- the calls of a cell -----------------------------------------------------------------------------


def inputs(case: Case, times: float = 1.0, dy: str = "standard_normal") -> tuple[Array, ...]:
    """x of the forward, y and dy of the vjp."""
    random, dtype = np.random.default_rng(1), dtype_of(case.dtype)
    x = (random.standard_normal(case.shape, np.float32) * np.float32(times)).astype(dtype, copy=False)
    if case.what == "forward":
        return (x,)
    y = getattr(softgrad, case.map)(x, axis=case.axis)
    return y, getattr(random, dy)(case.shape, np.float32).astype(dtype, copy=False)


def ready(library: str, case: Case, arrays: tuple[Array, ...], **options: Any) -> Call:
    """A call of softgrad or PyTorch into an array of the result's size."""
    call: Any = implementations.ready(library, OUT, case, arrays).call
    return functools.partial(call, **options)


def pair(case: Case) -> Calls:
    """softgrad and PyTorch, which give the same."""
    both = {name: implementations.ready(name, OUT, case, inputs(case)) for name in ("softgrad", "torch")}
    ours, theirs = (one.result()[0].astype(np.float32) for one in both.values())
    if not np.abs(ours - theirs).max() <= 0.02 * np.abs(theirs).max():
        raise SystemExit(f"{case.name}: softgrad and PyTorch give different results")
    return {name: one.call for name, one in both.items()}


def and_numpy(case: Case) -> Calls:
    return pair(case) | {"numpy": implementations.ready("numpy", NEW, case, inputs(case)).call}


def of_grid(case: Case) -> Calls:
    """softgrad, PyTorch, and where they apply NumPy, oneDNN, the limit, and other inputs of the vjp."""
    calls, arrays = (and_numpy if case.dtype in ("float32", "float64") else pair)(case), inputs(case)
    if case.op == "softmax" and case.dtype == "float32" and case.axis == -1:
        calls["onednn"] = functools.partial(torch.softmax, torch.from_numpy(*arrays).to_mkldnn(), 1)
    if (case.shape, case.dtype) == LIMITED:
        calls["limit"], _ = limits.on_cpu(case)["out"]  # the loops take longer than ENOUGH: once each
    if case.op == "softmax_vjp":
        saturated = inputs(case, times=10.0)
        calls["uniform"] = ready("softgrad", case, inputs(case, dy="random"))
        calls["saturated"] = ready("softgrad", case, saturated)
        calls["torch saturated"] = ready("torch", case, saturated)
    return calls


def with_mask(case: Case) -> Calls:
    (first, *others), where = inputs(case), np.random.default_rng(3).random(case.shape) < 0.5
    if case.op == "softmax_vjp":
        first = np.where(where, first, 0)  # as softmax gives y with a mask
    more: dict[str, Any] = {"softgrad": {}, "masked": {"where": where}}
    return {name: ready("softgrad", case, (first, *others), **mask) for name, mask in more.items()}


def entropy(x: Any, axis: int) -> Any:
    logarithms = torch.log_softmax(x, axis)
    return -(logarithms.exp() * logarithms).sum(axis)


REDUCTIONS = {"logsumexp": torch.logsumexp, "entropy": entropy}
ENTMAX = {"sparsemax": entmax.sparsemax, "entmax": entmax.entmax15}


def through_autograd(case: Case) -> Calls:
    """softgrad and a peer into new arrays; the peer's vjp is `autograd.grad`."""
    name, axis = case.op.removesuffix("_vjp"), case.axis
    peer, function = ("torch", REDUCTIONS[name]) if name in REDUCTIONS else ("entmax", ENTMAX[name])
    x, ours = inputs(replace(case, op="softmax"))[0], getattr(softgrad, case.op)
    leaf = torch.from_numpy(x).requires_grad_()
    if name == case.op:
        theirs = functools.partial(function, leaf.detach(), axis)
        return {"softgrad": functools.partial(ours, x, axis=axis), peer: theirs}
    result = function(leaf, axis)
    dy = np.random.default_rng(2).standard_normal(tuple(result.shape), np.float32)
    kept = x if name in REDUCTIONS else result.detach().numpy()
    theirs = functools.partial(torch.autograd.grad, result, leaf, torch.from_numpy(dy), retain_graph=True)
    calls: Calls = {"softgrad": functools.partial(ours, kept, dy, axis=axis), peer: theirs}
    if name == "entmax":
        calls["alpha"] = functools.partial(softgrad.entmax_alpha_vjp, kept, dy, 1.5, axis=axis)
    return calls


# --- the parts ---------------------------------------------------------------------------------------


def of_cells(
    name: str, ops: Iterable[str], calls: Callable[[Case], Calls], shapes: Any = (), dtypes: Any = ()
) -> Any:
    """A part with these calls; the shapes and dtypes are those of the grid unless given."""

    def records(options: argparse.Namespace) -> Iterator[Record]:
        for case in cells(ops, shapes or options.shapes, dtypes or options.dtypes):
            sample = functools.partial(timing.interleaved, calls(case), rounds=201, pause=1e-4)
            yield measure(name, case, options.seconds, sample)

    return records


def cells(ops: Iterable[str], shapes: list[Any], dtypes: Iterable[str]) -> Iterator[Case]:
    for (shape, axis), dtype, op in itertools.product(shapes, dtypes, ops):
        yield Case(op, shape, axis, dtype, 1)


def measure(part: str, case: Case, seconds: float, sample: Callable[..., timing.Samples]) -> Record:
    """The record with medians; measured again if it misses a bound."""
    r = {"part": part, "op": case.op, "shape": list(case.shape), "axis": case.axis, "dtype": case.dtype}
    if part == "threads":
        r["bytes"] = case.nbytes
    for budget in (seconds, 4 * seconds):
        samples = sample(budget=budget)
        r["seconds"] = {name: statistics.median(of_one) for name, of_one in samples.items()}
        ours, first, *_ = samples.values()
        ratio = timing.spread(first, ours)
        r["noise"] = round((ratio.q3 - ratio.q1) / 2 / ratio.median, 4)
        if not any(bound.missed for bound in bounds([r]) if "mean" not in bound.asked):
            break
    return r


def two_threads(options: argparse.Namespace) -> Iterator[Record]:
    """Two processes get the case, then before each sample the number of threads."""
    if len(os.sched_getaffinity(0)) < 2:
        print("two threads: left out, this process has one core")
        return
    context, pipes = multiprocessing.get_context("spawn"), {}
    for library in ("softgrad", "torch"):
        pipes[library], theirs = context.Pipe()
        context.Process(target=serve, args=(library, theirs), daemon=True).start()
        theirs.close()

    def sampler(library: str, threads: int) -> Callable[[], float]:
        def sample() -> float:
            time.sleep(SPINNING)
            pipes[library].send(threads)
            return float(pipes[library].recv())

        return sample

    turns = {"softgrad": ("softgrad", 2), "torch": ("torch", 2), "one thread": ("softgrad", 1)}
    samplers = {name: sampler(*turn) for name, turn in turns.items()}
    for case in cells(OPS, options.shapes, options.dtypes):
        for pipe in pipes.values():
            pipe.send(case)
        sample = functools.partial(timing.in_turns, samplers, rounds=10_000)
        yield measure("threads", case, options.seconds, sample)
    for pipe in pipes.values():
        pipe.send(None)


def serve(library: str, pipe: Any) -> None:
    torch.set_num_threads(2 if library == "torch" else 1)
    for message in iter(pipe.recv, None):
        if isinstance(message, Case):
            call, counts = ready(library, message, inputs(message)), {}
            continue
        softgrad.set_num_threads(message)
        call()
        if message not in counts:
            counts[message] = timing.calls_in(call, 1e-3)
        pipe.send(timing.seconds_per_call(call, counts[message]))


def with_vjps(functions: Iterable[str]) -> list[str]:
    return [op + suffix for op in functions for suffix in ("", "_vjp")]


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Record]]] = {
    "reproduce": startup.reproduce,
    "import": startup.imports,
    "first": startup.first_calls,
    "memory": startup.memory,
    "small": of_cells("small", OPS, and_numpy, SMALL, ("float32", "float64")),
    "masked": of_cells("masked", OPS, with_mask, [((1000, 1000), -1)], ("float32",)),
    "forward": of_cells("grid", ["softmax"], of_grid),
    "vjp": of_cells("grid", ["softmax_vjp"], of_grid),
    "logs": of_cells("log", with_vjps(["log_softmax"]), pair),
    "reductions": of_cells("reductions", with_vjps(REDUCTIONS), through_autograd, PIECES, ("float32",)),
    "sparse": of_cells("sparse", with_vjps(ENTMAX), through_autograd, SPARSE, ("float32",)),
    "threads": two_threads,
}


# --- output ---------------------------------------------------------------------------------------------


def line(r: Record) -> str:
    """A record: softgrad's time, and the others' as multiples of it."""
    text = f"{r['part']}: {name_of(r)}"
    if "grown" in r:
        return f"{text:52} {r['grown'] / 2**20:6.2f} MB"
    ours = r["seconds"]["softgrad"]
    others = (f"{name} {t / ours:.2f}" for name, t in r["seconds"].items() if name != "softgrad")
    return f"{text:52} {with_unit(ours, SECONDS):>8}  {'  '.join(others)}"


def table(records: list[Record]) -> str:
    lines = []
    for b in bounds(records):
        met = f"missed in {len(b.missed)} of {len(b.values)}" if b.missed else "met"
        lines += [f"{b.name:60} {b.asked:>10} {b.worst:9.3g}  {met}", *(f"    {text}" for text in b.missed)]
    return "\n".join(lines)


def shapes_of(text: str) -> list[tuple[tuple[int, ...], int]]:
    """32x512 is along the axis that it has in the grid, 64x100:0 along axis 0."""
    words = [word.partition(":") for word in text.split(",")]
    shapes = [tuple(map(int, sizes.split("x"))) for sizes, _, _ in words]
    axes = [int(axis) if axis else None for _, _, axis in words]
    return [(s, dict(SHAPES).get(s, -1) if a is None else a) for s, a in zip(shapes, axes, strict=True)]


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument(
        "--check", action="store_true", help="measure nothing; exits with 1 if a bound is missed"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--shapes", type=shapes_of, default=SHAPES)
    parser.add_argument("--dtypes", type=lambda text: tuple(text.split(",")), default=startup.DTYPES)
    parser.add_argument("--seconds", type=float, default=0.25, help="for a cell; 5 rounds at least")
    parser.add_argument("--json", type=Path, help="where to write, or what to check")
    options = parser.parse_args()
    if options.check:
        records = json.loads((options.json or RESULTS).read_text())["records"]
        print(table(records))
        raise SystemExit(any(bound.missed for bound in bounds(records)))
    start, load, records = time.perf_counter(), os.getloadavg()[0], []
    if load > BUSY:
        print(f"{load:.2f} processes were running before: the figures will be off")
    torch.set_num_threads(1)
    softgrad.set_num_threads(1)
    for name in options.only or PARTS:
        for record in PARTS[name](options):
            records.append(record)
            print(line(record), flush=True)
    whole = not options.only and (options.shapes, options.dtypes) == (SHAPES, startup.DTYPES)
    if path := options.json or (RESULTS if whole else None):
        environment = machine.environment("numpy", "numba", "scipy", "torch", "jax")
        features = llvmlite.binding.get_host_cpu_features()
        vectors = (name for key, name in VECTORS.items() if features.get(key))
        environment |= {"instructions": next(vectors, "SSE"), "load": round(load, 2)}
        path.write_text(as_text({"environment": environment, "records": records}))
    print(f"\n{table(records)}\n\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
