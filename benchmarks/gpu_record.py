"""Ask a GPU whether the Triton kernels are right, and how fast they are, in one run of eight minutes.

    PYTHONPATH=src python benchmarks/gpu_record.py benchmarks/results/gpu.json
    python benchmarks/gpu_record.py --dry FILE      all of it in Triton's interpreter, with tiny sizes

It asks in stages: what a device copy reaches; whether each kernel is right, for each dtype and length, then
with each option; some of that under compute-sanitizer; how long softmax and its vjp take, beside the copy,
PyTorch, Liger and QuACK; then what a launch takes from Python, log_softmax and entmax.  A stage ends with
what it has when its time is over.

Each answer is written as soon as it is there; the same command, given again, goes on where the file ends, and
asks once more what failed.  `make readme` puts the answers into README.md and docs/gpu.md.

Jobs, such as "check softmax_vjp float32 1000 mask", are done by other processes, of which checks have one for
each processor, so that kernels are compiled side by side.  One that fails is replaced, since a fault makes
CUDA unusable, and one that hangs is ended with its stage.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pool
import records as written
import torch

import softgrad
import softgrad.torch as st
from softgrad.bench import timing
from softgrad.bench.cases import ARRAYS, OPS, Case
from softgrad.bench.compare import Record, message
from softgrad.bench.implementations import specialise
from softgrad.commands import machine
from softgrad.commands.report import as_json, write_whole
from softgrad.specs import MAPS
from softgrad.testing import convert, verdicts
from softgrad.testing.operations import operation
from softgrad.testing.options import dtype_of
from softgrad.verify import peers

Json = dict[str, Any]
Tensors = tuple[torch.Tensor, ...]
Call = Callable[..., Any]

MAIN = "softmax", "softmax_vjp"
REST = "log_softmax", "log_softmax_vjp", "entmax", "entmax_vjp"  # that are timed too
# of most maps the jvp is the vjp by another name
OTHERS = tuple(op for op, (map, what) in OPS.items() if what != "jvp" or MAPS[map].jvp != MAPS[map].vjp)
CHECKED = tuple(dict.fromkeys((*MAIN, *OTHERS)))
OPTIONS = "mask", "offset", "saturated", "strided", "columns", "few", "functions", "sink"

DRY = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if DRY else "cuda"
COPIES = (4096,) if DRY else (1 << 30, 1 << 26)  # bytes
# What is checked.  The interpreter does not round to bfloat16, and before Triton 3.9 rounds an fma twice.
DTYPES = ("float32", "float16") if DRY else ("float32", "bfloat16", "float16", "float64")
LENGTHS = (17,) if DRY else (1, 3, 17, 64, 1000, 4096, 16384, 20000, 32768, 262144)
OPTION_LENGTHS = (17,) if DRY else (17, 1000, 4096, 32768)
REPEATS = 3 if DRY else 43  # of the rows: they make tiles enough to fill the chip
# What is timed
TIMED = "bfloat16", "float32"
FILL = 512 if DRY else 1 << 28  # elements that fill the chip
TIMED_LENGTHS = (8, 16) if DRY else tuple(1 << k for k in range(6, 19))
COMPILED = (16,) if DRY else (1024, 4096, 32768)  # also by torch.compile, and of other maps
FEW = ((1, 64),) if DRY else ((8, 262144), (1, 262144), (64, 262144), (8, 32768))
TOUCHED = 0 if DRY else 1 << 28  # bytes before an input comes again: five times what the cache holds
SAMPLES = 3 if DRY else 15

# stage: (seconds, processes).  The time that a stage leaves is the next one's.
CORES = 2 if DRY else max(1, machine.processors() - 2)
STAGES = {
    "copy": (20, 1),
    "check": (150, CORES),
    "sanitize": (45, 1),
    "warm": (30, min(CORES, 6)),  # each of which takes 5 GiB
    "time": (150, 1),
    "rest": (40, 1),
}


def jobs() -> dict[str, list[str]]:
    """By stage; what is asked for most comes first."""
    plain = itertools.product(CHECKED, DTYPES, LENGTHS, ["plain"])
    options = [
        (op, dtype, n, option)
        for n, option, dtype, op in itertools.product(OPTION_LENGTHS, OPTIONS, DTYPES, CHECKED)
        if takes(op, option, n)
    ]
    compiled = [(FILL // n, n) for n in COMPILED]
    alone = [(FILL // n, n) for n in TIMED_LENGTHS if n not in COMPILED]
    timed = [
        *itertools.product(MAIN, TIMED, compiled, ["torch.compile"]),
        *itertools.product(MAIN, TIMED, [*alone, *FEW], ["-"]),
    ]
    rest = itertools.product(REST, TIMED, compiled, ["-"])
    return {
        "copy": [f"copy {size}" for size in COPIES],
        "check": [
            *(f"autograd {name}" for name in FUNCTIONS_OF_TORCH),
            *(f"check {op} {dtype} {n} {option}" for op, dtype, n, option in (*plain, *options)),
        ],
        "sanitize": ["sanitize"],
        "time": [f"time {op} {dtype} {rows} {n} {more}" for op, dtype, (rows, n), more in timed],
        "rest": ["launch", *(f"time {op} {dtype} {rows} {n} -" for op, dtype, (rows, n), _ in rest)],
    }


def takes(op: str, option: str, n: int) -> bool:
    """Whether a function is checked with an option."""
    if DRY and (op not in MAIN or option == "few"):
        return False
    if option == "sink":
        return op in MAIN
    if option == "mask":
        return OPS[op][1] != "double-backward"
    return option != "few" or n > 1000


# --- right or wrong ------------------------------------------------------------------------------------


def check(op: str, dtype: str, length: str, option: str) -> Json:
    """A few rows, repeated: each result is the oracle's within softgrad's contract, and has the same bits for
    each copy of a row, in a second call, on another stream and in a CUDA graph.

    PyTorch fills new memory with NaN meanwhile, so what a kernel does not write is seen.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    case, arguments, where = rows_for(op, dtype_of(dtype), int(length), option)
    to, back = convert.LIBRARIES["torch"](DEVICE)
    axis, (rows, n) = 0 if option == "columns" else -1, case.arguments[0].shape
    repeats = 1 if option == "few" else 40 if axis == 0 and not DRY else REPEATS
    if op not in MAIN:
        repeats = min(repeats, max(3, 2**23 // (rows * n)))

    def laid_out(array: Any) -> torch.Tensor:
        tensor = to(array).repeat(repeats, 1)
        if option == "strided":
            return torch.stack([tensor, tensor], -1)[..., 0]
        return tensor.T.contiguous() if axis == 0 else tensor

    given = [laid_out(a) for a in arguments]
    options = {} if where is None else {"where": laid_out(where)}

    def call() -> Tensors:
        if option == "sink":
            elements, sinks = ([t[..., part] for t in given] for part in (slice(-1), slice(-1, None)))
            pairs = [t for pair in zip(elements, sinks, strict=True) for t in pair]
            return (torch.cat(getattr(softgrad, f"sink_{op}")(*pairs), -1),)
        function = getattr(softgrad if option == "functions" else importlib.import_module("softgrad.gpu"), op)
        found = function(*given, axis=axis, **options)
        return found if isinstance(found, tuple) else (found,)

    def copies(found: Tensors) -> Tensors:
        return tuple(t.movedim(axis, -1).reshape(repeats, rows, -1) for t in found)

    first = copies(call())
    verdict = verdicts.compared(case, tuple(back(t[0]) for t in first))
    expected, differ = [bits(t[:1]) for t in first], []
    if not all((bits(t) == e).all() for t, e in zip(first, expected, strict=True)):
        differ.append("rows")
    for name, way in WAYS.items():
        try:
            found = copies(way(call))
            if not all((bits(t) == e).all() for t, e in zip(found, expected, strict=True)):
                differ.append(name)
        except RuntimeError as error:  # a graph that can't be captured
            differ.append(f"{name}: {message(error)}")
    ran = sorted({step.by for step in softgrad.explain(call)}) if option in ("functions", "sink") else []
    passed = verdict.passed and not differ and (DRY or ran in ([], ["triton"]))
    return {"passed": passed, "worst": verdict.worst, "eps": verdict.eps, "differ": differ, "by": ran}


def rows_for(op: str, dtype: Any, n: int, option: str) -> tuple[verdicts.Case, tuple[Any, ...], Any]:
    """The rows with their exact results; the arguments of the kernel, with NaN and inf where they are masked;
    and the mask.  The sink is the last element of a row."""
    what = operation(*OPS[op])
    forward, n = what.what == "forward", n + (option == "sink")
    rng = np.random.default_rng(zlib.crc32(f"{op} {n}".encode()))
    count = 2 if n > 2**16 else 8 if option == "columns" else 7
    x, u, v = rng.standard_normal((3, count, n), np.float32)
    x[-1, 0] = 30  # a winner
    x = x * 20 if option == "saturated" else x
    if option == "offset":
        x, u, v = x + 1e4, u + 1e4, v + 1e4
    x, u, v = (a.astype(dtype) for a in (x, u, v))
    where = rng.random((count, n)) > 0.3 if option == "mask" else np.ones((count, n), bool)
    where[0] = option != "mask"
    arguments = what.arguments(np.where(where, x, dtype.type(-np.inf)), np.where(where, u, dtype.type(0)), v)
    exact = what.exact(*arguments)
    beside = what.terms(*arguments, *exact) if what.terms else ()
    allowed = what.allowed("tight", arguments, exact)
    case = verdicts.Case(
        what, "tight", verdicts.within, arguments, exact, allowed, ("",) * count, beside=beside
    )
    hidden = np.where(where, arguments[-1], dtype.type(np.nan if forward else np.inf))
    return case, (*arguments[:-1], hidden), where if option == "mask" else None


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def on_a_stream(call: Callable[[], Tensors]) -> Tensors:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = call()
    stream.synchronize()
    return found


def in_a_graph(call: Callable[[], Tensors]) -> Tensors:
    """Which also shows that the host waits for nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = call()
    graph.replay()
    torch.cuda.synchronize()
    return tuple(t.clone() for t in found)


WAYS: dict[str, Callable[[Callable[[], Tensors]], Tensors]] = {"again": lambda call: call()}
if not DRY:
    WAYS["on a stream"] = on_a_stream
if not DRY and "PYTORCH_NO_CUDA_MEMORY_CACHING" not in os.environ:  # which leaves no memory for graphs
    WAYS["in a graph"] = in_a_graph


def segments_by_torch(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.softmax(part, 0) for part in x.split([1, 4, 2])])


# Functions of x, of shape (7, 5), and of one number a row, and what PyTorch has in their place
FUNCTIONS_OF_TORCH: dict[str, tuple[Call, Call]] = {
    "masked": (
        lambda x, a: st.softmax(x, where=x > -1, scale=0.7),
        lambda x, a: torch.softmax((x * 0.7).masked_fill(x <= -1, -torch.inf), -1),
    ),
    "compiled": (
        lambda x, a: torch.compile(st.softmax, fullgraph=not DRY)(x),
        lambda x, a: torch.softmax(x, -1),
    ),
    "sink": (
        lambda x, a: st.sink_softmax(x, a)[0],
        lambda x, a: torch.softmax(torch.cat([x, a], -1), -1)[:, :-1],
    ),
    "segments": (
        lambda x, a: st.segment_softmax(x, torch.tensor([0, 1, 5, 7], device=x.device)),
        lambda x, a: segments_by_torch(x),
    ),
    "loss": (
        lambda x, a: st.cross_entropy(x, x.argmin(-1), reduction="none"),
        lambda x, a: torch.nn.functional.cross_entropy(x, x.argmin(-1), reduction="none"),
    ),
    # an alpha that is learnt, with the gradient 0 if it is a number
    "alpha": (lambda x, a: st.entmax(x, a[0] * 0 + 1.7), lambda x, a: st.entmax(x, 1.7)),
}


def autograd(name: str) -> Json:
    """A function of softgrad.torch, and its gradients, beside PyTorch's, in float64."""
    torch.manual_seed(0)
    leaves = [torch.randn(7, n, dtype=torch.float64, device=DEVICE, requires_grad=True) for n in (5, 1)]
    results = []
    for function in FUNCTIONS_OF_TORCH[name]:
        y = function(*leaves)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).reshape(y.shape)
        grads = torch.autograd.grad(y, leaves, weights, materialize_grads=True)
        results.append([y.detach(), *grads])
    pairs = list(zip(*results, strict=True))
    return {"passed": all(bool((a - b).abs().max() <= 1e-12 * b.abs().max()) for a, b in pairs)}


SANITIZED = (
    "check softmax float32 1000 plain",
    "check softmax_vjp bfloat16 20000 few",
    "check entmax float32 17 mask",
)


def sanitize() -> Json:
    """Some checks, each allocation by itself, under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if DRY or tool is None:
        return {"left_out": "there is no compute-sanitizer here"}
    command = [tool, "--error-exitcode", "9", sys.executable, __file__, "--worker"]
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    given = "".join(f"{job}\n" for job in SANITIZED)
    done = subprocess.run(command, input=given, env=environment, capture_output=True, text=True)
    if "not supported" in done.stdout:
        return {"left_out": "it does not take this device"}
    passed = done.returncode == 0 and done.stdout.count('"passed": true') == len(SANITIZED)
    return {"passed": passed, "status": done.returncode, "report": done.stdout[-3000:]}


# --- how fast ------------------------------------------------------------------------------------------


def inputs(case: Case) -> list[Tensors]:
    """The arguments of the op, so many times that they don't fit into the cache."""
    read, made = ARRAYS[case.what]
    gpu = importlib.import_module("softgrad.gpu")

    def normal() -> torch.Tensor:
        return torch.randn(case.shape, device=DEVICE, dtype=getattr(torch, case.dtype))

    first = normal if case.what == "forward" else lambda: getattr(gpu, case.map)(normal())
    times = 1 + TOUCHED // ((read + made) * case.nbytes)
    return [(first(), *(normal() for _ in range(read - 1))) for _ in range(times)]


def by_softgrad(case: Case) -> Call:
    call: Call = getattr(importlib.import_module("softgrad.gpu"), case.op)
    return call


def by_quack(case: Case) -> Call:
    module = importlib.import_module("quack.softmax")
    return module.softmax_fwd if case.op == "softmax" else lambda y, dy: module.softmax_bwd(dy, y)


def by_liger(case: Case) -> Call:
    module = importlib.import_module("liger_kernel.ops.softmax")
    if case.op == "softmax":
        return lambda x: module._softmax_forward(x)[0]
    like = torch.zeros(1, case.n, device=DEVICE, dtype=getattr(torch, case.dtype))
    settings = module._softmax_forward(like)[1:]
    return lambda y, dy: module._softmax_backward(dy, y, *settings)


def loaders(case: Case, names: list[str]) -> dict[str, Callable[[Case], Call]]:
    """What makes each implementation of the case that is installed; `names` are those of PyTorch."""
    found: dict[str, Callable[[Case], Call]] = {"softgrad": by_softgrad}
    for name in names:
        if (case.map, case.what) in peers.PEERS[name].functions:
            found[name] = functools.partial(specialise, name)
    for name, load in (("quack", by_quack), ("liger", by_liger)):
        if case.op in MAIN and not peers.why_not(peers.PEERS[name]):
            found[name] = load
    return found


def replay(call: Call, given: list[Tensors]) -> Callable[[], float]:
    """Seconds per call, of one call for each of the inputs in a CUDA graph, whose results are kept."""
    if DRY:
        return lambda: timing.seconds_per_call(lambda: call(*given[0]), 1)
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


def sampled(replays: dict[str, Callable[[], float]]) -> timing.Samples:
    samples = timing.in_turns(replays, rounds=SAMPLES + 2, fewest=SAMPLES + 2)
    return {name: own[2:] for name, own in samples.items()}  # the first two warm up


def copy(size: str) -> Json:
    """A device copy of so many bytes."""
    given = [(torch.randn(int(size) // 4, device=DEVICE),) for _ in range(1 + TOUCHED // int(size))]
    seconds = timing.spread(sampled({"copy": replay(torch.clone, given)})["copy"])
    return {"seconds": dataclasses.asdict(seconds), "bytes_per_second": 2 * int(size) / seconds.median}


def case_of(op: str, dtype: str, rows: str, n: str, more: str) -> tuple[Case, list[str]]:
    """The case, and which of PyTorch's implementations are beside it."""
    case = Case(op, (int(rows), int(n)), -1, dtype, threads=1, device=DEVICE)
    return case, ["torch", *([more] if more != "-" else [])]


def warm(*job: str) -> Json:
    """Compile what a case needs, for the process that times it to find on disk."""
    case, names = case_of(*job)
    (given, *_) = inputs(case)
    for load in loaders(case, names).values():
        with contextlib.suppress(Exception):  # it is told when the case is timed
            load(case)(*given)
    return {}


def measure(*job: str) -> Json:
    """A record for each implementation, which is timed only if it is right.

    A copy, which moves two arrays, is the limit of what moves as many.
    """
    case, names = case_of(*job)
    given, found = inputs(case), {}
    replays = {"copy": replay(lambda *one: one[0].clone(), given)}
    for name, load in loaders(case, names).items():
        record = Record(**dataclasses.asdict(case), implementation=name, into="new", bytes=case.moved)
        found[name] = record
        try:
            call = load(case)
            judged = verdict(case, given[0], call(*given[0]))
            record.error_eps = judged.eps
            if judged.passed:
                replays[name] = replay(call, given)
            else:
                record.left_out = f"not sound: off by {judged.worst:.3g} times what is allowed"
        except Exception as failure:  # a peer may refuse a shape
            record.left_out = message(failure)
    samples = sampled(replays)
    share = sum(ARRAYS[case.what]) / 2
    limit = [share * s for s in samples.pop("copy")]
    for name, own in samples.items():
        found[name].timed(own, limit, samples.get("softgrad"))
    return {"records": [dataclasses.asdict(record) for record in found.values()]}


def verdict(case: Case, given: Tensors, result: Any) -> verdicts.Verdict:
    """Of some of the first rows, against the exact result."""
    _, to_numpy = convert.LIBRARIES["torch"]("cpu")
    some = dataclasses.replace(case, shape=(min(8, case.shape[0]), case.n))
    reference = some.reference(tuple(to_numpy(t[: some.shape[0]]) for t in given))
    results = result if isinstance(result, tuple) else (result,)
    return verdicts.compared(reference, tuple(some.rows(to_numpy(t[: some.shape[0]])) for t in results))


def launch() -> Json:
    """Seconds of Python for a call on a small array that is ready."""
    x = torch.randn(8, 64, device=DEVICE)
    call = functools.partial(importlib.import_module("softgrad.gpu").softmax, x, out=torch.empty_like(x))
    samples = timing.interleaved({"call": call}, rounds=SAMPLES)["call"]
    return {"seconds": dataclasses.asdict(timing.spread(samples))}


# --- the record ----------------------------------------------------------------------------------------


def freed(function: Callable[..., Json]) -> Callable[..., Json]:
    """The function, after which the memory of the device is for the other processes."""

    @functools.wraps(function)
    def call(*arguments: str) -> Json:
        answer = function(*arguments)
        if not DRY:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        return answer

    return call


FUNCTIONS = {
    "copy": copy, "autograd": autograd, "check": check, "sanitize": sanitize,
    "warm": warm, "time": measure, "launch": launch,
}  # fmt: skip


SAME = "gpu", "softgrad", "torch", "triton"  # in both parts of a record


def begun(path: Path) -> Json:
    """What is to be written, with what an earlier run has."""
    about = machine.environment("torch", "triton", "numpy", "quack-kernels", "liger-kernel")
    about = {"gpu": "none: interpreted" if DRY else torch.cuda.get_device_name(), **about}
    content: Json = {"environment": about, "fill": FILL, "left": [], "answers": []}
    if path.exists():
        earlier = json.loads(path.read_text())
        if any(earlier["environment"].get(name) != about.get(name) for name in SAME):
            sys.exit(f"{path} was measured on another GPU, or with other versions: give another file.")
        content |= earlier
        content["answers"] = [answer for answer in content["answers"] if "error" not in answer]
    return content


def record(path: Path) -> Json:
    content, end = begun(path), time.monotonic()

    def left() -> dict[str, list[str]]:
        done = {answer["job"] for answer in content["answers"]}
        return {stage: [job for job in names if job not in done] for stage, names in jobs().items()}

    def keep(job: str, answer: Json) -> None:
        told = answer.get("error", "").strip().rpartition("\n")[2] or json.dumps(answer)[:150]
        print(f"{job}: {told}", flush=True)
        if not job.startswith("warm"):  # the next machine has to be warmed again
            content["answers"].append({"job": job, **json.loads(as_json(answer))})
            write_whole(path, written.as_text(content).encode())

    todo = left()
    timed = [*todo["time"], *todo["rest"]]
    todo["warm"] = [job.replace("time", "warm", 1) for job in timed if job.startswith("time")]
    for stage, (seconds, processes) in STAGES.items():
        end += seconds
        pool.run([sys.executable, __file__, "--worker"], todo[stage], end, processes, keep)
    content["left"] = list(itertools.chain(*left().values()))
    write_whole(path, written.as_text(content).encode())
    return content


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return pool.serve({name: freed(function) for name, function in FUNCTIONS.items()})
    if given.path is None:
        parser.error("give the file to write, such as benchmarks/results/gpu.json")
    if given.dry and not DRY:  # Triton asks when it is imported
        os.environ["TRITON_INTERPRET"] = "1"
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # which would take longer than the rest
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if not DRY and not torch.cuda.is_available():
        sys.exit("There is no CUDA device.  --dry runs everything in Triton's interpreter.")
    os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of each worker
    content = record(given.path)
    checks = [a for a in content["answers"] if a["job"].startswith("check")]
    failed = [a["job"] for a in content["answers"] if "error" in a or a.get("passed") is False]
    print(f"{len(checks)} checks are done, {len(failed)} jobs failed, {len(content['left'])} are left:")
    print(*failed, sep="\n")


if __name__ == "__main__":
    main()
