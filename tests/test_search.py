"""The adversarial search for rows on which the vjp is far off; benchmarks/search.py runs it from any seed."""

import functools
import itertools

import numpy as np
import pytest

from softgrad import softmax_vjp
from softgrad.testing import cases, errors, oracle
from softgrad.testing.search import LENGTHS, draw, search, usable

ROUNDS = 3 * len(LENGTHS)


def worst(vjp, dtype, seed, rounds=ROUNDS):
    return max(itertools.islice(search(vjp, dtype, seed), rounds), key=lambda found: found.error)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_found_beyond_the_contract(dtype, seed, axis):
    found = worst(functools.partial(cases.along, softmax_vjp, axis), dtype, seed)
    assert found.error <= errors.product_bound(np.dtype(dtype)), str(found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_finds_what_is_wrong_elsewhere(dtype):
    """The plain form, a mean that is kept as one number, a start from a far dy."""

    def plain(y, dy):
        return y * (dy - (y * dy).sum(axis=-1, keepdims=True))

    def exact_mean(y, dy):
        w, d = y.astype(oracle.WIDE), dy.astype(oracle.WIDE)
        m = (w * d).sum(axis=-1, keepdims=True) / w.sum(axis=-1, keepdims=True)
        return y * (dy - m.astype(y.dtype))

    def from_the_winner(y, dy):
        d = dy - np.take_along_axis(dy, y.argmax(axis=-1)[:, None], axis=-1)
        w = y.astype(oracle.WIDE)
        return (w * (d - (w * d).sum(axis=-1, keepdims=True) / w.sum(axis=-1, keepdims=True))).astype(y.dtype)

    for wrong in (plain, exact_mean, from_the_winner):
        assert worst(wrong, dtype, 0, len(LENGTHS)).error > errors.product_bound(np.dtype(dtype))


def test_the_exact_result_rounded_is_half_an_eps_off():
    def right(y, dy):
        return oracle.vjp(y, dy).astype(y.dtype)

    assert 0.2 < worst(right, "float32", 0, len(LENGTHS)).error <= 0.5


def test_a_seed_gives_the_same_rows():
    one, same, other = (worst(softmax_vjp, "float32", seed, 4) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.dy, same.dy)
    assert one.dy.tolist() != other.dy.tolist()
    assert one.kind in str(one)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rows_are_what_they_are_said_to_be(dtype):
    """Positive weights, and gradients that are not all alike: of each kind some."""
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(600):
        kind, y, dy = draw(rng, 33, np.dtype(dtype))
        kinds.update(kind.split(", ")[:2])
        assert y.dtype == dy.dtype == dtype
        assert (y >= 0).all()
        assert y.any()
        assert usable(y, dy)
    assert len(kinds) == 16
