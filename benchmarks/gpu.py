"""Check and time the Triton kernels on a GPU, beside a device copy, PyTorch, Liger and QuACK.

    pip install '.[gpu,plot]'; python benchmarks/gpu.py RESULTS.json PLOT.svg

Shapes fill the chip, or have few rows.  Inputs are rotated so that the second-level cache holds none of
them, and calls are replayed from CUDA graphs, all of a shape in turns, the copy among them; what a launch
takes from Python is measured by itself.  A result is timed only if it is right.  Peers are those that are
installed.  The records are those of `softgrad bench`; a copy, which moves two arrays, is the limit of what
moves as many.

Forward and vjp of softmax come first, at a few sizes, then at all; then the other maps.  The results are
written after each case.  After eight minutes the run ends with what it has, and says what it left out; the
same command, given again, goes on where the results end.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import records as written
import torch
from matplotlib.figure import Figure

from softgrad import gpu
from softgrad.bench import plot, timing
from softgrad.bench.cases import ARRAYS, OPS, Case
from softgrad.bench.compare import Comparison, Record, message
from softgrad.bench.implementations import specialise
from softgrad.bench.report import as_json
from softgrad.commands import machine
from softgrad.commands.report import write_whole
from softgrad.specs import MAPS
from softgrad.testing import verdicts
from softgrad.verify import convert, peers

FILL = 1 << 28  # elements that fill the chip
LENGTHS = tuple(1 << k for k in range(5, 19))
SOME = 64, 1024, 4096, 16384, 65536  # for the other maps
FIRST = (*((FILL // n, n) for n in (1024, 4096, 32768)), (8, 32768))  # what is asked for most
FEW = tuple((rows, n) for rows in (1, 8, 64) for n in (8192, 32768, 262144))
MAIN = "softmax", "softmax_vjp"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
TOUCHED = 1 << 28  # bytes that are touched before an input comes again: five times what the cache holds
JUDGED = 8  # rows that are compared with the exact result
SAMPLES = 15
SECONDS = 7.5 * 60  # for all cases; the rest is for what comes before and after

_, to_numpy = convert.LIBRARIES["torch"]("cpu")

Tensors = tuple[torch.Tensor, ...]
Call = Callable[..., Any]


def cases() -> Iterator[Case]:
    """What is asked for first comes first."""
    of_its_own = {op for op, (map, what) in OPS.items() if what != "jvp" or MAPS[map].jvp != MAPS[map].vjp}
    others = [op for op in OPS if op in of_its_own.difference(MAIN)]
    lengths = tuple((FILL // n, n) for n in LENGTHS)
    some = tuple((FILL // n, n) for n in SOME)
    rest = tuple(shape for shape in (*lengths, *FEW) if shape not in FIRST)
    for ops, shapes in ((MAIN, FIRST), (MAIN, rest), (others, some)):
        for op, shape, dtype in itertools.product(ops, shapes, DTYPES):
            yield Case(op, shape, -1, dtype, threads=1, device="cuda")


def inputs(case: Case) -> list[Tensors]:
    """The arguments of the op, so many times that they don't fit into the cache."""
    read, written = ARRAYS[case.what]
    kind = DTYPES[case.dtype]

    def normal() -> torch.Tensor:
        return torch.randn(case.shape, device="cuda", dtype=kind)

    first = normal if case.what == "forward" else lambda: getattr(gpu, case.map)(normal())
    times = 1 + TOUCHED // ((read + written) * case.nbytes)
    return [(first(), *(normal() for _ in range(read - 1))) for _ in range(times)]


# --- what is timed -------------------------------------------------------------------------------------


def by_torch(case: Case) -> dict[str, Call]:
    """PyTorch eager and compiled for the case; its double backward is autograd's and no function."""
    names = [
        name for name in ("torch", "torch.compile") if (case.map, case.what) in peers.PEERS[name].functions
    ]
    return {name: specialise(name, case) for name in names if case.what in ("forward", "vjp")}


def by_quack(case: Case) -> dict[str, Call]:
    if case.op not in MAIN:
        return {}
    module = importlib.import_module("quack.softmax")
    if case.op == "softmax":
        return {"quack": module.softmax_fwd}
    return {"quack": lambda y, dy: module.softmax_bwd(dy, y)}


def by_liger(case: Case) -> dict[str, Call]:
    if case.op not in MAIN:
        return {}
    module = importlib.import_module("liger_kernel.ops.softmax")
    if case.op == "softmax":
        return {"liger": lambda x: module._softmax_forward(x)[0]}
    settings = module._softmax_forward(torch.zeros(1, case.n, device="cuda", dtype=DTYPES[case.dtype]))[1:]
    return {"liger": lambda y, dy: module._softmax_backward(dy, y, *settings)}


PEERS = {"torch": by_torch, "quack": by_quack, "liger": by_liger}


def implementations(case: Case, absent: dict[str, str]) -> dict[str, Call]:
    found = {"softgrad": getattr(gpu, case.op)}
    for name, calls in PEERS.items():
        try:
            found |= calls(case)
        except Exception as error:  # not installed, or not for this shape
            absent[name] = message(error)
    return found


# --- one case ------------------------------------------------------------------------------------------


def verdict(case: Case, given: Tensors, result: Any) -> verdicts.Verdict:
    """Of some of the first rows, against the exact result."""
    count = min(JUDGED, case.shape[0])
    some = dataclasses.replace(case, shape=(count, case.n))
    reference = some.reference(tuple(to_numpy(t[:count]) for t in given))
    results = result if isinstance(result, tuple) else (result,)
    return verdicts.compared(reference, tuple(some.rows(to_numpy(t[:count])) for t in results))


def replay(call: Call, given: list[Tensors]) -> Callable[[], float]:
    """Seconds per call, of one call for each of the inputs, whose results are kept."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph, kept = torch.cuda.CUDAGraph(), []
    with torch.cuda.stream(stream):
        call(*given[0])  # compiles
        with torch.cuda.graph(graph, stream=stream):
            kept += [call(*one) for one in given]
    torch.cuda.current_stream().wait_stream(stream)

    def seconds() -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1e3 / len(given)

    seconds.graph, seconds.kept = graph, kept  # type: ignore[attr-defined]  # as long as it may be called
    return seconds


def records(case: Case, absent: dict[str, str]) -> list[Record]:
    given = inputs(case)
    replays = {"copy": replay(lambda *one: one[0].clone(), given)}
    found = {}
    for name, call in implementations(case, absent).items():
        record = Record(**dataclasses.asdict(case), implementation=name, into="new", bytes=case.moved)
        found[name] = record
        try:
            judged = verdict(case, given[0], call(*given[0]))
            record.error_eps = judged.eps
            if not judged.passed:
                record.left_out = f"not sound: off by {judged.worst:.3g} times what is allowed"
                continue
            replays[name] = replay(call, given)
        except Exception as failure:  # a peer may refuse a shape
            record.left_out = message(failure)
    samples = timing.in_turns(replays, rounds=SAMPLES + 2, fewest=SAMPLES + 2)
    samples = {name: own[2:] for name, own in samples.items()}  # the first two warm up
    share = sum(ARRAYS[case.what]) / 2  # copies that move as much
    limit = [share * s for s in samples.pop("copy")]
    for name, own in samples.items():
        found[name].timed(own, limit, samples.get("softgrad"))
    return list(found.values())


def launch() -> dict[str, float]:
    """Seconds of Python for a call on a small array that is ready."""
    x = torch.randn(8, 64, device="cuda")
    call = functools.partial(gpu.softmax, x, out=torch.empty_like(x))
    return dataclasses.asdict(timing.spread(timing.interleaved({"call": call}, rounds=SAMPLES)["call"]))


# --- the record ----------------------------------------------------------------------------------------


def picture(found: list[dict[str, Any]]) -> bytes:
    """The share of a copy's speed that each reaches on arrays that fill the chip, against n."""
    drawn = Figure((13, 8), layout="constrained")
    panels = drawn.subplots(2, 2).flat
    for axes, (dtype, op) in zip(panels, itertools.product(DTYPES, MAIN), strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for r in found:
            rows, n = r["shape"]
            if (r["op"], r["dtype"], rows * n) == (op, dtype, FILL) and r["limit_ratio"]:
                lines.setdefault(r["implementation"], []).append((n, r["limit_ratio"]["median"]))
        plot.panel(axes, lines, f"{op}, {dtype}: speed beside a copy's", (("", 1.0),))
    return plot.save(drawn, "svg")


def begun(path: Path) -> dict[str, Any]:
    """What is to be written, with what an earlier run has."""
    about = machine.environment("torch", "triton", "quack-kernels", "liger-kernel")
    about = {"gpu": torch.cuda.get_device_name(), **about}
    content: dict[str, Any] = json.loads(as_json(Comparison(about, quick=False))) | {"launch_seconds": None}
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["environment"] | {"date": about["date"]} != about:
            sys.exit(f"{path} was measured on another machine, or with other versions: give another file.")
        content |= earlier
    return content


class OutOfTime(BaseException):
    """No Exception, which a peer may raise and is then left out by."""


def out_of_time(*_: Any) -> None:
    raise OutOfTime


def write(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, written.as_text(content).encode())


def to_do(content: dict[str, Any]) -> list[Case]:
    """The cases of which there are no results."""
    done = {(r["op"], r["dtype"], *r["shape"]) for r in content["records"]}
    return [case for case in cases() if (case.op, case.dtype, *case.shape) not in done]


def measured(path: Path, content: dict[str, Any]) -> None:
    """Case by case, into `content` and the file."""
    content["launch_seconds"] = content["launch_seconds"] or launch()
    for case in to_do(content):
        found = Comparison(content["environment"], quick=False, absent=content["absent"])
        found.records += records(case, found.absent)
        for record in found.records:
            ratio = record.limit_ratio
            told_of = record.left_out if ratio is None else f"{ratio.median:.2f} of a copy"
            print(f"{case.name}, {record.implementation}: {told_of}", flush=True)
        content["records"] += json.loads(as_json(found))["records"]
        write(path, content)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device to timing.")
    path = Path(sys.argv[1])
    content = begun(path)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # also in the middle of a case
    try:
        measured(path, content)
    except OutOfTime:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    content["left_out"] = [case.name for case in to_do(content)]
    write(path, content)
    Path(sys.argv[2]).write_bytes(picture(content["records"]))
    if content["left_out"]:
        print(f"Left out, for want of time ({len(content['left_out'])} cases; run it again to go on):")
        print(*content["left_out"], sep="\n")


if __name__ == "__main__":
    main()
