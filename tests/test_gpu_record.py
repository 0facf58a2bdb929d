"""Of benchmarks/gpu.py what needs no GPU: what is timed, what is told right from wrong, and the picture."""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import signal
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import softgrad.torch as st  # noqa: E402
from softgrad.bench.compare import Record  # noqa: E402
from softgrad.bench.timing import Spread  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("gpu", "records"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("gpu")


def test_every_shape_of_the_record(bench):
    shapes = {(c.op, c.dtype, c.shape) for c in bench.cases()}
    for dtype in ("bfloat16", "float32"):
        for op in ("softmax", "softmax_vjp"):
            assert {(op, dtype, (2**28 // n, n)) for n in [2**k for k in range(5, 19)]} < shapes
            assert {(op, dtype, (rows, 262144)) for rows in (1, 8, 64)} < shapes
    assert {op for op, _, _ in shapes} >= {"log_softmax_vjp", "sparsemax", "entmax_double_backward"}


def test_what_is_asked_for_most_comes_first(bench):
    found = list(bench.cases())
    assert len({(c.op, c.dtype, c.shape) for c in found}) == len(found)
    first = 2 * 2 * len(bench.FIRST)
    assert first <= 20
    assert {(c.op, c.dtype) for c in found[:first]} == {
        (op, dtype) for op in ("softmax", "softmax_vjp") for dtype in ("bfloat16", "float32")
    }
    ops = [c.op for c in found]
    assert {"softmax", "softmax_vjp"}.isdisjoint(ops[ops.index("log_softmax") :])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("op", ["softmax", "softmax_vjp", "log_softmax_jvp", "entmax_double_backward"])
def test_what_is_wrong_is_not_timed(bench, dtype, op):
    assert_told_from_wrong(bench, bench.Case(op, (10, 33), -1, dtype, threads=1, device="cuda"))


@pytest.mark.parametrize("n", [16384, 65536])
def test_of_long_rows_some_are_looked_at(bench, n):
    assert_told_from_wrong(bench, bench.Case("softmax_vjp", (10, n), -1, "float32", threads=1, device="cuda"))


def assert_told_from_wrong(bench, case):
    function, y = getattr(st, case.op), case.what != "forward"
    count, dtype = bench.ARRAYS[case.what][0], bench.DTYPES[case.dtype]
    torch.manual_seed(0)
    given = tuple(torch.randn(case.shape, dtype=dtype) for _ in range(count))
    given = (getattr(st, case.map)(given[0]), *given[1:]) if y else given
    result = function(*given)
    judged = bench.verdict(case, given, result)
    assert judged.passed
    assert judged.eps < 4
    wrong = result[0] if isinstance(result, tuple) else result
    wrong[0] *= 2
    assert not bench.verdict(case, given, result).passed


def test_the_picture(bench):
    def spread(median):
        return Spread(*[median] * len(Spread.__dataclass_fields__))

    found = [
        dataclasses.asdict(
            Record(
                "softmax", (2**28 // n, n), -1, "float32", 1, "cuda", name, "new", limit_ratio=spread(share)
            )
        )
        for n in (64, 4096)
        for name, share in (("softgrad", 0.9), ("torch", 0.6), ("quack", 0.8), ("liger", 0.5))
    ]
    drawn = bench.picture(found).decode()
    assert drawn.lstrip().startswith("<?xml")
    assert "softmax, float32: speed beside a copy" in drawn
    assert drawn.count("QuACK") >= 1


@pytest.fixture
def on_a_gpu(bench, monkeypatch, tmp_path):
    """Results of three cases, by a GPU that is not there."""
    cases = list(bench.cases())[:3]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "one that is not there")
    monkeypatch.setattr(bench, "cases", lambda: iter(cases))
    monkeypatch.setattr(bench, "launch", dict)
    path, plot = tmp_path / "a.json", tmp_path / "a.svg"
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(path), str(plot)])
    handler = signal.getsignal(signal.SIGALRM)
    yield cases, path, plot
    signal.signal(signal.SIGALRM, handler)


def result(case):
    return [Record(**dataclasses.asdict(case), implementation="softgrad", into="new")]


def shapes(path):
    return [tuple(r["shape"]) for r in json.loads(path.read_text())["records"]]


def test_a_run_that_was_cut_off_goes_on(bench, on_a_gpu, monkeypatch):
    cases, path, plot = on_a_gpu
    measured = []

    def records(case, absent):
        measured.append(case)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return result(case)

    monkeypatch.setattr(bench, "records", records)
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    assert len(shapes(path)) == 2
    bench.main()
    assert measured == [*cases, cases[2]]
    assert shapes(path) == [c.shape for c in cases]
    assert plot.exists()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "another")
    with pytest.raises(SystemExit, match="another machine"):
        bench.main()


def test_a_run_ends_with_what_it_has_when_its_time_is_over(bench, on_a_gpu, monkeypatch, capsys):
    """In the middle of a case, too, though what a peer raises is caught there."""
    cases, path, plot = on_a_gpu

    def records(case, absent):
        if case == cases[1]:
            with contextlib.suppress(Exception):
                time.sleep(600)
        return result(case)

    monkeypatch.setattr(bench, "records", records)
    monkeypatch.setattr(bench, "SECONDS", 0.5)
    bench.main()
    assert shapes(path) == [cases[0].shape]
    assert json.loads(path.read_text())["left_out"] == [c.name for c in cases[1:]]
    assert plot.exists()
    printed = capsys.readouterr().out
    assert "2 cases" in printed
    assert all(c.name in printed for c in cases[1:])
    monkeypatch.setattr(bench, "records", lambda case, absent: result(case))
    monkeypatch.setattr(bench, "SECONDS", 600)
    bench.main()
    assert shapes(path) == [c.shape for c in cases]
    assert json.loads(path.read_text())["left_out"] == []
    assert "Left out" not in capsys.readouterr().out


def test_without_a_gpu_nothing_is_written(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "a.json"), str(tmp_path / "a.svg")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        bench.main()
    assert not list(tmp_path.iterdir())
