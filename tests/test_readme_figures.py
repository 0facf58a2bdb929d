"""The figures of README.md and docs/ are those of benchmarks/results, and a bound can be missed."""

import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


def test_they_say_what_was_measured():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "readme.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("dtype", "n", "times", "missed"),
    [
        ("float32", 512, 0.91, []),
        ("float32", 512, 0.89, ["PyTorch's time / softgrad's"]),
        ("float16", 512, 0.76, []),
        ("float16", 512, 0.74, ["the same, float16"]),
        ("float32", 16, 0.71, []),
        ("float32", 16, 0.69, ["the same, float32 rows of up to 16"]),
        ("float64", 16, 0.71, ["PyTorch's time / softgrad's"]),
        ("float64", 512, float("nan"), ["PyTorch's time / softgrad's"]),
    ],
)
def test_a_cell_below_its_bound_is_missed(monkeypatch, dtype, n, times, missed):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from bounds import bounds

    cell = {"part": "grid", "op": "softmax", "shape": [32, n], "axis": -1, "dtype": dtype}
    found = bounds([{**cell, "seconds": {"softgrad": 1.0, "torch": times}}])
    assert [b.name for b in found if b.missed and "mean" not in b.asked] == missed
