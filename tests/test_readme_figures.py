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


def test_the_model_of_collectives(monkeypatch):
    """With two processes it is the lines it is made of; and NCCL's on one node and on two, by hand."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import scale

    line = {"processes": 2, "alpha": 1e-4, "beta": 1e9}
    all_reduce, all_gather = scale.gloo([{"op": "all_reduce", **line}, {"op": "all_gather", **line}])
    assert all_reduce(2, 1e6) == all_gather(2, 1e6) == pytest.approx(1.1e-3)
    assert all_reduce(4, 1e6) == pytest.approx(3e-4 + 1.5e-3)  # 6 steps, of which two take 0.1 ms and 1 MB
    assert all_gather(4, 1e6) == pytest.approx(3e-4 + 3e-3)
    assert scale.nccl_all_reduce(8, 0) == pytest.approx((4.4 + 2 * 7 * 0.52) * 1e-6)
    assert scale.nccl_all_reduce(16, 0) == pytest.approx((4.4 + 2 * (7 * 0.52 * 1.8 + 5)) * 1e-6)
    assert scale.nccl_all_gather(16, 0) == pytest.approx((3.6 + 14 * 0.47 * 1.8 + 2.7) * 1e-6)
    assert scale.nccl_all_gather(16, 1e9) == pytest.approx((8.4 + 14 * 3.4 + 9.6) * 1e-6 + 15 / 400)
