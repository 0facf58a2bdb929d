"""benchmarks/gpu_record.py without a GPU: all of it in Triton's interpreter, and what goes wrong is seen."""

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
    assert {a["job"].split()[-1] for a in checks} >= {"plain", "mask", "columns", "functions", "sink"}
    assert {a["job"].split()[0] for a in content["answers"]} == {
        "copy",
        "check",
        "sanitize",
        "time",
        "launch",
    }
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
import workers
def die(): print("words of a library"); os._exit(3)
def hang(): time.sleep(600)
def add(a, b): return {{"sum": int(a) + int(b)}}
def fail(): 1 / 0
workers.serve({{"add": add, "die": die, "fail": fail, "hang": hang}})
"""


def test_what_happens_to_jobs(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    server = tmp_path / "server.py"
    server.write_text(SERVER.format(path=str(BENCHMARKS)))
    answers, start = {}, time.monotonic()
    jobs = ["add 1 2", "die", "fail", "add 3 4", "hang", "add 5 6"]
    importlib.import_module("workers").run(
        [sys.executable, server], jobs, start + 5, 1, lambda job, answer: answers.update({job: answer})
    )
    assert time.monotonic() - start < 20
    assert answers["add 1 2"]["sum"] == 3
    assert "ended with 3" in answers["die"]["error"]
    assert "words of a library" in answers["die"]["error"]
    assert "ZeroDivisionError" in answers["fail"]["error"]
    assert answers["add 3 4"]["sum"] == 7
    assert answers.keys() == set(jobs[:4])
