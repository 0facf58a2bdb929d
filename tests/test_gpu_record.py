"""benchmarks/gpu_record.py without a GPU: all of it in Triton's interpreter, and what goes wrong is seen."""

import contextlib
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import softgrad.torch as st  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu_record.py"


def run(*arguments):
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "gpu.json"
    done = run("--dry", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def module(monkeypatch):
    """The script, as it is where Triton interprets its kernels; these are none of Triton's here."""
    importlib.import_module("softgrad.gpu")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, "gpu_record", raising=False)
    yield importlib.import_module("gpu_record")
    torch.use_deterministic_algorithms(False)


def test_the_whole_of_it(record):
    content = json.loads(record.read_text())
    assert content["left"] == []
    checks = [a for a in content["answers"] if a["job"].startswith("check")]
    assert len(checks) > 40
    assert all(a["passed"] and a["differ"] == [] for a in checks)
    assert all(a["passed"] for a in content["answers"] if a["job"].startswith("autograd"))
    assert {a["job"].split()[-1] for a in checks} >= {"plain", "mask", "columns", "functions", "sink"}
    kinds = {a["job"].split()[0] for a in content["answers"]}
    assert kinds == {"copy", "autograd", "check", "sanitize", "time", "launch"}
    (timed,) = (a for a in content["answers"] if a["job"] == "time softmax_vjp float32 32 16 torch.compile")
    shares = {r["implementation"]: r["limit_ratio"]["median"] for r in timed["records"]}
    assert shares.keys() == {"softgrad", "torch", "torch.compile"}
    assert all(share > 0 for share in shares.values())


def test_a_run_that_was_cut_off_goes_on(record, tmp_path):
    whole, path = json.loads(record.read_text()), tmp_path / "a.json"
    *kept, failed = [a for a in whole["answers"] if a["job"] != "launch"]
    path.write_text(json.dumps(whole | {"answers": [*kept, {"job": failed["job"], "error": "a fault"}]}))
    done = run("--dry", path)
    told = [line.partition(":")[0] for line in done.stdout.splitlines() if ": {" in line]
    assert [job for job in told if not job.startswith("warm")] == ["launch", failed["job"]]
    again = json.loads(path.read_text())
    assert sorted(a["job"] for a in again["answers"]) == sorted(a["job"] for a in whole["answers"])
    assert again["left"] == []
    path.write_text(json.dumps(whole | {"environment": whole["environment"] | {"gpu": "another"}}))
    assert "another GPU" in run("--dry", path).stderr


def test_the_page(record, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    readme = importlib.import_module("readme")
    run = json.loads(record.read_text())
    assert readme.gpu({}) == readme.gpu_line({}) == readme.NO_GPU
    assert "54 of 54 checks" in readme.gpu_line({"gpu": run})
    page = readme.gpu({"gpu": run})
    assert "Failed: none. Not timed: none." in page
    assert "| 20 µs / a launch's time in Python | ≥ 1 |" in page
    assert "### `entmax_vjp`, bfloat16\n\n| rows × n | softgrad |\n" in page
    assert "softmax_vjp, float32: share of a copy's speed" in readme.picture(run).decode()
    for answer in run["answers"]:  # with less, the page is still there
        answer["passed"] = False
        for one in answer.pop("records", [])[:1]:
            answer["records"] = [one | {"limit_ratio": None, "left_out": "not sound"}]
    assert "Not timed: softgrad: not sound." in readme.gpu({"gpu": run | {"left": ["launch"]}})
    assert "pass 0 of 54 checks" in readme.gpu_line({"gpu": run})


def test_without_a_gpu_nothing_is_written(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "no CUDA device" in run(tmp_path / "a.json").stderr
    assert not list(tmp_path.iterdir())


def other_rows(y):
    y = y.clone()
    y[-1] = y[0]
    return y


class Flickering:
    """Other bits in each call, all of them right."""

    calls = 0

    def __call__(self, y):
        self.calls += 1
        return torch.where(y == y.amax(), torch.nextafter(y, y + self.calls % 2), y)


@pytest.mark.parametrize(
    ("change", "passed", "differ"),
    [
        (lambda y: y, True, []),
        (lambda y: y * 1.00001, False, []),
        (lambda y: torch.empty_like(y), False, []),  # not written, which was right by chance
        (other_rows, False, ["rows", "again"]),
        (Flickering(), False, ["again"]),
    ],
    ids=["right", "wrong", "unwritten", "another row", "flickering"],
)
def test_what_is_wrong_is_seen(module, monkeypatch, change, passed, differ):
    monkeypatch.setattr("softgrad.gpu.softmax", lambda x, axis: change(st.softmax(x, axis)))
    answer = module.check("softmax", "float32", "17", "plain")
    assert (answer["passed"], answer["differ"]) == (passed, differ)


def test_a_wrong_gradient_is_seen(module):
    assert module.autograd("sink")["passed"]
    right, reference = module.FUNCTIONS_OF_TORCH["sink"]
    module.FUNCTIONS_OF_TORCH["sink"] = lambda x, a: right(x, a * 1.001), reference
    assert not module.autograd("sink")["passed"]


def test_what_is_asked_of_cuda(module, monkeypatch):
    """With stand-ins for its streams, graphs and events: what a GPU would run, runs."""
    log = []

    class Thing(contextlib.nullcontext):
        def __init__(self, *arguments, **options):
            pass

        def __exit__(self, *exception):
            pass

        def __getattr__(self, name):
            return functools.partial(stand_in, name)

    def stand_in(name, *arguments, **options):
        log.append(name)
        return 4.0 if name == "elapsed_time" else Thing()

    for name in ("Stream", "CUDAGraph", "Event"):
        monkeypatch.setattr(torch.cuda, name, Thing)
    for name in ("stream", "graph", "current_stream", "synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, functools.partial(stand_in, name))
    monkeypatch.setattr("softgrad.gpu.softmax", lambda x, axis=-1: st.softmax(x, axis))
    monkeypatch.setattr(module, "DRY", False)
    ways = {"on a stream": module.on_a_stream, "in a graph": module.in_a_graph}
    monkeypatch.setattr(module, "WAYS", module.WAYS | ways)
    answer = module.freed(module.check)("softmax", "float32", "17", "plain")
    assert (answer["passed"], answer["differ"], log[-1]) == (True, [], "empty_cache")
    measured = module.replay(torch.clone, [(torch.ones(3),), (torch.ones(3),)])()
    assert measured == 0.002
    assert log[-4:] == ["replay", "record", "synchronize", "elapsed_time"]
    (one, *_) = module.measure("softmax", "float32", "3", "16", "-")["records"]
    assert one["limit_ratio"]["median"] == 1


@pytest.mark.parametrize("n", [33, 65536])
@pytest.mark.parametrize("op", ["softmax", "log_softmax_vjp", "entmax_double_backward"])
def test_what_is_wrong_is_not_timed(module, monkeypatch, op, n):
    for name in ("log_softmax", "entmax"):
        monkeypatch.setattr(f"softgrad.gpu.{name}", getattr(st, name))
    for factor, told in ((1, ""), (2, "not sound")):

        def call(*tensors, factor=factor):
            found = getattr(st, op)(*tensors)
            return tuple(t * factor for t in found) if isinstance(found, tuple) else found * factor

        monkeypatch.setattr(f"softgrad.gpu.{op}", call)
        (record,) = (r for r in module.measure(op, "float32", "3", str(n), "-")["records"][:1])
        assert record["left_out"].startswith(told)
        assert (record["seconds"] is None) == (factor == 2)


# --- the workers ---------------------------------------------------------------------------------------

SERVER = """
import os, sys, time
sys.path.insert(0, {path!r})
import pool
def die(): print("words of a library"); os._exit(3)
def hang(): time.sleep(600)
def add(a, b): return {{"sum": int(a) + int(b)}}
def fail(): 1 / 0
pool.serve({{"add": add, "die": die, "fail": fail, "hang": hang}})
"""


def test_what_happens_to_jobs(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    server = tmp_path / "server.py"
    server.write_text(SERVER.format(path=str(BENCHMARKS)))
    answers, start = {}, time.monotonic()
    jobs = ["add 1 2", "die", "fail", "add 3 4", "hang", "add 5 6"]
    importlib.import_module("pool").run(
        [sys.executable, server], jobs, start + 5, 1, lambda job, answer: answers.update({job: answer})
    )
    assert time.monotonic() - start < 20
    assert answers["add 1 2"]["sum"] == 3
    assert "ended with 3" in answers["die"]["error"]
    assert "words of a library" in answers["die"]["error"]
    assert "ZeroDivisionError" in answers["fail"]["error"]
    assert answers["add 3 4"]["sum"] == 7
    assert answers.keys() == set(jobs[:4])
