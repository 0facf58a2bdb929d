"""The example of an array on disk: it ends well, and it finds what is wrong."""

import dask.array as da
import larger_than_memory as example
import pytest

import softgrad

RIGHT = softgrad.softmax_vjp
ARGUMENTS = {"gigabytes": 3 * 4 * 4 * 128 / 1e9, "seed": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(example, "ROWS", 4)
    monkeypatch.setattr(example, "PIECE", 128)


def test_the_sums_of_rows_are_right(tmp_path, capsys):
    assert example.main(folder=tmp_path, **ARGUMENTS) == 0
    assert "by map_blocks those of y are 3" in capsys.readouterr().out


def by_blocks(y, dy):
    return da.map_blocks(RIGHT, y, dy, dtype=y.dtype, meta=y._meta)


def without_the_mean(y, dy):
    return y * dy


@pytest.mark.parametrize("wrong", [by_blocks, without_the_mean])
def test_a_wrong_gradient_is_found(tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(softgrad, "softmax_vjp", wrong)
    assert example.main(folder=tmp_path, **ARGUMENTS) == 1


def test_a_wrong_softmax_is_found(tmp_path, monkeypatch):
    right = softgrad.softmax
    monkeypatch.setattr(
        softgrad, "softmax", lambda x: x.map_blocks(right) if hasattr(x, "dask") else right(x)
    )
    assert example.main(folder=tmp_path, **ARGUMENTS) == 1
