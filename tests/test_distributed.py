"""Rows that are divided: the numbers that shards exchange, and softgrad.torch's functions in a process group.

The oracle is that of whole rows.
"""

import functools
import os
import signal
import warnings

import logs
import losses
import numpy as np
import processes
import pytest
import test_entropy
import torch
import torch.distributed as dist
from contract import assert_product
from ranks import Ranks, group
from test_log_softmax import check_winner
from torch.utils._python_dispatch import TorchDispatchMode

import softgrad.torch as st
from softgrad import distributed, formulas, softmax
from softgrad.cpu import machine
from softgrad.testing import bounds, cases, errors, oracle
from softgrad.torch import exchange, sharded, sharded_losses
from softgrad.torch.tensors import array, as_tensor

INF, NAN = np.inf, np.nan
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
each_size = pytest.mark.parametrize("size", [2, 4])
N = 100
# where the shards of rows of N end: alike, of any size, with empty ones, with one that has all
CUTS = {
    2: [[50], [1], [0]],
    4: [[25, 50, 75], [3, 40, 99], [0, 60, 60]],
}


# --- what shards exchange -----------------------------------------------------------------------------


def divided(x, dy, cuts, axis=-1, where=None, **options):
    """(y, dx) of arrays whose axis is divided, by the functions of `softgrad.distributed`."""
    parts = [np.split(a, cuts, axis) for a in (x, dy)]
    masks = [None] * len(parts[0]) if where is None else np.split(where, cuts, axis)
    masked = [{"axis": axis, "where": mask} for mask in masks]
    told = [distributed.stats(x, **m, **options) for x, m in zip(parts[0], masked, strict=True)]
    whole = distributed.merge(formulas.merge_stats, *map(np.stack, zip(*told, strict=True)))
    y = [distributed.finish(x, *whole, **m, **options) for x, m in zip(parts[0], masked, strict=True)]
    both = list(zip(y, parts[1], masked, strict=True))
    told = zip(*[distributed.moments(y, dy, **m) for y, dy, m in both], strict=True)
    whole = distributed.merge(formulas.merge_moments, *map(np.stack, told))
    dx = [distributed.finish_vjp(y, dy, *whole, **m, **options) for y, dy, m in both]
    return np.concatenate(y, axis), np.concatenate(dx, axis)


def assert_softmax(y, x, axis=-1, scale=1.0, where=None, more=0.0):
    """2 ulp, or 0.51; `more` of float64, in which what is exchanged is rounded."""
    worst = errors.ulps(y, oracle.softmax(x, axis, scale, where)).max()
    assert y.dtype == x.dtype
    assert worst <= errors.forward_bound(x.dtype) + (more if x.dtype == FLOAT64 else 0), worst


@each_dtype
@pytest.mark.parametrize("axis", [-1, 0])
def test_the_contract_of_whole_rows(dtype, axis):
    x, dy = cases.logits(N, dtype), cases.gradients(N, dtype)
    if axis == 0:
        x, dy = x.T.copy(), dy.T.copy()
    for cuts in [*CUTS[2], *CUTS[4], [*range(1, N)]]:
        y, dx = divided(x, dy, cuts, axis)
        assert_softmax(y, x, axis)
        assert_product(dx, y, dy, axis)


@each_dtype
@pytest.mark.parametrize("scale", [0.0, -1.0, 1 / np.sqrt(96), -3.7, 1e-30, 1e30])
def test_a_scale_is_exact(dtype, scale):
    x, dy = cases.logits(N, dtype), cases.gradients(N, dtype)
    y, dx = divided(x, dy, CUTS[4][1], scale=scale)
    assert_softmax(y, x, scale=scale, more=0.5)
    if abs(scale) < 1e30:  # there dx is inf
        assert_product(dx, y, dy, scale=scale)


def hard_rows(dtype):
    """y and dy of which the mean has to be found apart from all others: offsets, ties, one dy far away."""
    n, z = 1000, cases.numbers(1000, "hard")
    even, sure = np.full(n, 1 / n), np.full(n, 1e-12)
    sure[700] = 1
    rows = [(even, z + 1e10), (sure, z + 1e10), (even, np.full(n, 1e10)), (sure, z)]
    far, tied, tie = 1 + 1e-3 * z, np.full(n, 1e-30), np.full(n, 1e10)
    far[5] = 0.1 * n
    tied[[10, 900]], tie[20:30] = 0.5, 1e10 + 1e6
    rows += [(even, far), (tied, tie), (even, np.where(np.arange(n) % 2, 1e4, -1e4)), (even, 1e-30 * z)]
    with np.errstate(over="ignore"):
        y, dy = (np.stack(part).astype(dtype) for part in zip(*rows, strict=True))
    finite = np.isfinite(dy).all(-1)
    return y[finite], dy[finite]


def product_of_shards(y, dy, cuts):
    parts = [np.split(a, cuts, -1) for a in (y, dy)]
    told = [distributed.moments(*both, axis=-1) for both in zip(*parts, strict=True)]
    whole = distributed.merge(formulas.merge_moments, *map(np.stack, zip(*told, strict=True)))
    dx = [distributed.finish_vjp(*both, *whole, axis=-1) for both in zip(*parts, strict=True)]
    return np.concatenate(dx, -1)


@each_dtype
def test_an_offset_costs_no_digits(dtype):
    y, dy = hard_rows(dtype)
    for cuts in [], [500], [6, 250, 701], [0, 0, 999], range(1, 1000):
        assert_product(product_of_shards(y, dy, cuts), y, dy)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_differences_that_overflow(dtype):
    large = float(np.finfo(dtype).max)
    y, dy = np.array([[0.5, 0.25, 0.25]], dtype), np.array([[large, -large, -large]], dtype)
    for cuts in [1], [2], [1, 2]:
        np.testing.assert_array_equal(product_of_shards(y, dy, cuts), y * dy)


@each_dtype
def test_masks_empty_rows_and_nan(dtype):
    x, dy = (cases.numbers(8 * N, name).reshape(8, N).astype(dtype) for name in "xd")
    where = cases.numbers(8 * N, "where").reshape(8, N) > -1
    where[1], x[2], x[3, 5], dy[4, 7] = False, -INF, NAN, NAN
    where[[3, 4, 5], [5, 7, 9]] = True
    x[5, 9], x[~where], dy[~where] = INF, NAN, NAN
    dy[2] = NAN
    for cuts in CUTS[4]:
        y, dx = divided(x, dy, cuts, where=where)
        good = [0, 6, 7]
        assert_softmax(y[good], np.where(where, x, 0)[good], where=where[good])
        assert_product(dx[good], y[good], np.where(where, dy, 0)[good], where=where[good])
        for row in (1, 2):
            np.testing.assert_array_equal([y[row], dx[row]], 0)
        for row in (3, 5):
            np.testing.assert_array_equal(np.isnan(y[row]), where[row])
        np.testing.assert_array_equal(np.isnan(dx[4]), where[4])
        assert (y[~where] == 0).all()
        assert (dx[~where] == 0).all()


def test_an_empty_row_is_what_is_asked():
    x = np.full((2, 4), -INF)
    whole = distributed.stats(x, axis=-1)
    np.testing.assert_array_equal(whole, [[[-INF]] * 2, [[-1.0]] * 2])
    mask = np.array([True, False, True, True])
    assert np.isnan(distributed.finish(x, *whole, axis=-1, empty="nan", where=mask)).all()
    with pytest.raises(ValueError, match="empty='raise'"):
        distributed.finish(x, *whole, axis=-1, empty="raise")


def everything():
    """What each kernel tells, or makes, of masked float64 rows."""
    x, dy, where = cases.numbers(60, "x").reshape(3, 20), cases.numbers(60, "dy").reshape(3, 20), x_mask()
    options = {"axis": -1, "where": where}
    for scale in (2.0, -0.5, 0.0):
        yield from distributed.tell("shard_stats", x, **options, scale=scale)
        told = distributed.tell("shard_entropy", x, **options, scale=scale)
        yield from told
        top, others, _ = told
        numbers = top, others, 0.0, 3.0, 0.1
        yield distributed.apply("shard_softmax", numbers, x, **options, scale=scale)
        y = distributed.apply("shard_log_softmax", (top, others), x, **options, scale=scale, fill=-INF)
        yield y
    told = distributed.tell("shard_log_sum", y, dy, **options)
    yield from told
    yield distributed.apply("shard_log_vjp", tuple(told), y, dy, **options, scale=2.0)
    p = softmax(x, where=where)
    told = distributed.moments(p, dy, **options)
    yield told[0] + told[1]
    yield told[2]
    yield distributed.finish_vjp(p, dy, *told, **options, scale=2.0)


def x_mask():
    where = cases.numbers(60, "where").reshape(3, 20) > -0.5
    where[1] = False
    return where


def test_formulas_where_there_are_no_kernels(monkeypatch):
    found = list(everything())
    monkeypatch.setattr(machine, "lacks", lambda dtype: "everything")
    for one, other in zip(everything(), found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_formulas_on_tensors_of_other_devices(monkeypatch):
    """As on a GPU, on tensors that are here."""

    def tell(name, *arrays, axis, where=None, scale=1.0):
        tensors = [torch.from_numpy(a) for a in arrays]
        mask = None if where is None else torch.from_numpy(where)
        numbers = sharded.by_formulas(name, tensors, None, (axis,), mask, scale, 0.0)
        return [number.numpy() for number in numbers]

    def apply(name, numbers, *arrays, axis, where=None, scale=1.0, fill=0.0):
        tensors = [torch.from_numpy(a) for a in arrays]
        mask = None if where is None else torch.from_numpy(where)
        numbers = [np.broadcast_to(number, np.shape(numbers[0])) for number in numbers]
        table = torch.from_numpy(np.stack(numbers, -1))
        return sharded.by_formulas(name, tensors, table, (axis,), mask, scale, fill).numpy()

    found = list(everything())
    monkeypatch.setattr(distributed, "tell", tell)
    monkeypatch.setattr(distributed, "apply", apply)
    for one, other in zip(everything(), found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


# --- in a process group -------------------------------------------------------------------------------

OF_ROWS = ("logsumexp", "entropy")


def shard(a, cuts, axis=-1):
    """This rank's part of an array, as a tensor."""
    return as_tensor(np.ascontiguousarray(np.split(a, cuts, axis)[dist.get_rank()]))


def call(name, x, dy, cuts, options, axis=-1):
    """What a function returns on this rank, and its gradient."""
    of = group(len(cuts) + 1)
    if of is None:
        return None
    options = {key: shard(v, cuts, axis) if key == "where" else v for key, v in options.items()}
    part = shard(x, cuts, axis).requires_grad_()
    before = part.detach().clone()
    result = getattr(st, name)(part, dim=axis, group=of, **options)
    result.backward(as_tensor(dy) if name in OF_ROWS else shard(dy, cuts, axis))
    assert torch.equal(part.detach().nan_to_num(), before.nan_to_num())
    return array(result), array(part.grad)


@functools.cache
def compile_once(dtype):
    """The kernels, here and to disk: four processes that need them at once would each compile them."""
    x = np.zeros((2, 3), dtype)
    for name in distributed.NOTHING:
        arrays = [x] if name in ("shard_stats", "shard_entropy") else [x, x]
        distributed.tell(name, *arrays, axis=-1)
    numbers = {"shard_softmax": 5, "shard_log_softmax": 2, "shard_vjp": 3, "shard_log_vjp": 2}
    for name, count in numbers.items():
        arrays = [x, x] if "vjp" in name else [x]
        distributed.apply(name, (0.0,) * count, *arrays, axis=-1)


def in_group(ranks, name, x, dy, cuts, axis=-1, **options):
    """(result, gradient) of whole rows."""
    compile_once(x.dtype)
    results = [r for r in ranks(call, name, x, dy, cuts, options, axis) if r is not None]
    assert len(results) == len(cuts) + 1
    found, grads = zip(*results, strict=True)
    if name in OF_ROWS:
        for other in found[1:]:  # one number a row, with the same bits everywhere
            np.testing.assert_array_equal(found[0].view(np.uint8), other.view(np.uint8))
        return found[0], np.concatenate(grads, axis)
    return np.concatenate(found, axis), np.concatenate(grads, axis)


@each_size
@each_dtype
def test_softmax(ranks, dtype, size):
    x, dy = cases.logits(N, dtype), cases.gradients(N, dtype)
    for cuts in CUTS[size]:
        y, dx = in_group(ranks, "softmax", x, dy, cuts)
        assert_softmax(y, x)
        assert_product(dx, y, dy)
        again = in_group(ranks, "softmax", x, dy, cuts)
        np.testing.assert_array_equal(
            [y.view(np.uint8), dx.view(np.uint8)], [a.view(np.uint8) for a in again]
        )


@each_dtype
def test_softmax_of_long_rows_columns_and_masks(ranks, dtype):
    rows = cases.numbers(3 * 40_001, "long").reshape(3, -1) * [[1], [10], [30]]
    x, dy = rows.astype(dtype), cases.numbers(3 * 40_001, "dy").reshape(3, -1).astype(dtype)
    where = cases.numbers(3 * 40_001, "where").reshape(3, -1) > 0
    cuts, hidden = [10_000, 10_001, 30_000], np.where(where, 0, NAN).astype(dtype)
    y, dx = in_group(ranks, "softmax", x + hidden, dy + hidden, cuts, where=where, scale=0.7)
    assert_softmax(y, x, scale=0.7, where=where, more=0.5)
    assert_product(dx, y, dy, scale=0.7, where=where)
    x, dy = (np.ascontiguousarray(a[:, :N].T) for a in (x, dy))
    y, dx = in_group(ranks, "softmax", x, dy, CUTS[4][1], axis=0)
    assert_softmax(y, x, axis=0)
    assert_product(dx, y, dy, axis=0)


@each_size
@each_dtype
def test_log_softmax(ranks, dtype, size):
    x, dy = cases.logits(N, dtype), cases.gradients(N, dtype)
    for cuts in CUTS[size]:
        y, dx = in_group(ranks, "log_softmax", x, dy, cuts)
        assert errors.ulps_above_1(y, oracle.log_softmax(x)).max() <= errors.forward_bound(dtype)
        exact = oracle.log_vjp(y, dy)
        held = np.abs(exact) < float(errors.info(dtype).max)
        error = np.abs(np.where(held, dx, 0).astype(oracle.WIDE) - np.where(held, exact, 0))
        assert (error <= bounds.log_vjp_bound(y, dy, exact)).all()


@each_dtype
def test_log_softmax_of_a_sure_row(ranks, dtype):
    def divided(x, axis=-1):
        return in_group(ranks, "log_softmax", x, np.zeros_like(x), [20, 39, 40])[0]

    for x in ([20, 0, 0], [0, -100, -90], [1000, 900, 950], [30, 30, 30]):
        check_winner(divided, dtype, x)


@each_size
@each_dtype
def test_logsumexp_and_entropy(ranks, dtype, size):
    x = cases.logits(N, dtype)
    dy = cases.numbers(len(x), "dy").astype(dtype)
    for cuts in CUTS[size]:
        found, dx = in_group(ranks, "logsumexp", x, dy, cuts)
        test_entropy.assert_logsumexps(found, logs.logsumexp(x))
        test_entropy.assert_vjp("logsumexp", dx, x, dy)
        found, dx = in_group(ranks, "entropy", x, dy, cuts)
        if dtype == FLOAT64:  # of which the numbers that are exchanged are rounded: 4 ulp
            np.testing.assert_allclose(found, logs.entropy(x).astype(float), rtol=4 * 2.0**-52)
        else:
            test_entropy.assert_entropies(found, logs.entropy(x))
        test_entropy.assert_vjp("entropy", dx, x, dy)


def test_logsumexp_and_entropy_of_infinite_logits(ranks):
    x = np.array([[-INF] * 4, [INF, 0, 0, 1], [0, 1, NAN, INF], [-INF, 0, 0, -INF]])
    for cuts in [2], [1, 2, 3]:
        found, dx = in_group(ranks, "logsumexp", x, np.ones(4), cuts)
        np.testing.assert_array_equal(found[:3], [-INF, INF, NAN])
        np.testing.assert_array_equal(dx[[0, 3]], [[0] * 4, [0, 0.5, 0.5, 0]])
        found, dx = in_group(ranks, "entropy", x, np.ones(4), cuts)
        np.testing.assert_array_equal(found, [0, NAN, NAN, np.log(2)])
        np.testing.assert_array_equal(dx[[0, 3]], 0)


def cross_entropy(x, target, cuts, options):
    of = group(len(cuts) + 1)
    if of is None:
        return None
    part, rank = shard(x, cuts).requires_grad_(), dist.get_rank()
    start = None if options.pop("even", False) else [0, *cuts][rank]
    loss = st.cross_entropy(part, as_tensor(target), reduction="none", group=of, start=start, **options)
    loss.backward(torch.ones_like(loss))
    return array(loss), array(part.grad)


def divided_cross_entropy(ranks, cuts):
    """As `softgrad.cross_entropy_with_vjp`."""

    def function(x, target, *, axis, reduction, **options):
        compile_once(x.dtype)
        results = ranks(cross_entropy, np.array(x), np.array(target), cuts, options)
        loss, grads = zip(*[r for r in results if r is not None], strict=True)
        for other in loss[1:]:
            np.testing.assert_array_equal(loss[0].view(np.uint8), other.view(np.uint8))
        return loss[0], lambda: np.concatenate(grads, -1)

    return function


@each_dtype
def test_cross_entropy(ranks, dtype):
    x, target, exact, gradients, _ = losses.classes(N, dtype)
    for cuts in [*CUTS[2], *CUTS[4]]:
        loss, vjp = divided_cross_entropy(ranks, cuts)(x, target, axis=-1, reduction="none")
        # half an eps more than of whole rows, for the sums of shards are cut otherwise
        assert losses.loss_error(loss, exact).max() <= losses.bound(dtype) + 0.5
        assert errors.row_error(vjp(), gradients).max() <= losses.bound(dtype)
    losses.check_smoothing(divided_cross_entropy(ranks, CUTS[4][2]), dtype, N)
    losses.check_smoothing(divided_cross_entropy(ranks, CUTS[4][1]), dtype, N)


def test_cross_entropy_ignores_rows_and_knows_where_its_classes_start(ranks):
    x, target = cases.numbers(5 * 8, "x").reshape(5, 8), np.array([0, 3, 7, -1, 5])
    x[3] = NAN
    loss, vjp = divided_cross_entropy(ranks, [2, 4, 6])(
        x, target, axis=-1, reduction="none", even=True, ignore_index=-1, label_smoothing=0.1
    )
    keep = [0, 1, 2, 4]
    exact, gradients, _ = losses.exact(x[keep], losses.smoothed(losses.one_hot(target[keep], 8), 0.1))
    assert losses.loss_error(loss[keep], exact).max() <= losses.bound(FLOAT64)
    assert errors.row_error(vjp()[keep], gradients).max() <= losses.bound(FLOAT64)
    assert loss[3] == 0
    np.testing.assert_array_equal(vjp()[3], 0)


# --- derivatives, graphs, what is sent ----------------------------------------------------------------


def second_derivatives(name, x, dy, v):
    found = []
    for of in (group(4), None):
        parts = [torch.tensor(a, requires_grad=True) for a in (x, dy)]
        slices = parts if of is None else [p.tensor_split(4, -1)[dist.get_rank()] for p in parts]
        cotangent = torch.tensor(v) if of is None else torch.tensor(v).tensor_split(4, -1)[dist.get_rank()]
        y = getattr(torch, name)(slices[0], -1) if of is None else getattr(st, name)(slices[0], group=of)
        (dx,) = torch.autograd.grad(y, slices[0], slices[1], create_graph=True)
        found += torch.autograd.grad(dx, slices, cotangent)
    return [array(a) for a in found]


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_second_derivatives(ranks, name):
    x, dy, v = (cases.numbers(3 * 12, key).reshape(3, 12) for key in "xdv")
    of_x, of_dy, whole_x, whole_dy = zip(*ranks(second_derivatives, name, x, dy, v), strict=True)
    assert errors.row_error(np.concatenate(of_x, -1), whole_x[0].astype(oracle.WIDE)).max() <= 20
    assert errors.row_error(np.concatenate(of_dy, -1), whole_dy[0].astype(oracle.WIDE)).max() <= 20


def third_derivative(name):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = getattr(st, name)(x, group=group(4))
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    if name in ("softmax", "log_softmax"):
        (dx,) = torch.autograd.grad(dx.square().sum(), x, create_graph=True)
    dx.sum().backward()


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy"])
def test_what_has_no_derivative_says_so(ranks, name):
    for result in ranks(third_derivative, name, errors=True):
        assert "once_differentiable" in result.text


class Sent(TorchDispatchMode):
    """The bytes of each all-gather that goes out, and any other collective by its name."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if "c10d" in name and "wait" not in name:
            self.sent.append(args[1][0].nbytes if "allgather" in name else name)
        return function(*args, **(kwargs or {}))


def sent(rows):
    found = {}
    for name in ("softmax", "log_softmax", "logsumexp", "entropy", "cross_entropy"):
        x = torch.randn(rows, 5, requires_grad=True)
        more = (torch.zeros(rows, dtype=torch.int64),) if name == "cross_entropy" else ()
        with Sent() as forward:
            y = getattr(st, name)(x, *more, group=group(4))
        with Sent() as backward:
            y.sum().backward()
        found[name] = forward.sent, backward.sent
    return found


def test_one_collective_each_way_and_few_numbers(ranks):
    """2 numbers a row forward and 3 backward, with one of the call; a frame of 2 KiB has up to 116 rows."""
    frame = 8 * (exchange.HEAD + exchange.ROOM)
    for found in ranks(sent, 64):
        assert found["softmax"] == ([frame], [64 * 3 * 8 + 8])
        assert found["log_softmax"] == ([frame], [64 * 2 * 8 + 8])
        assert found["logsumexp"] == found["cross_entropy"] == ([frame], [])
        assert found["entropy"] == ([frame], [64 * 3 * 8 + 8])
    assert frame == 2048
    for found in ranks(sent, 1000):
        forward, backward = found["softmax"]
        assert sum(forward) == 1000 * 2 * 8 + 8 * exchange.HEAD
        assert len(forward) == 2
        assert backward == [1000 * 3 * 8 + 8]


def of_numbers():
    of = group(2)
    if of is None:
        return None
    found = []
    for function in (st.softmax, st.log_softmax, st.logsumexp, st.entropy):
        x = torch.tensor(float(dist.get_rank()), requires_grad=True)
        y = function(x, dim=0, group=of)
        y.backward()
        found += [y.item(), x.grad.item()]
    return found


def test_numbers_are_shards_of_one(ranks):
    first, second, *_ = ranks(of_numbers)
    p, q = (1 / (1 + np.exp(t)) for t in (1, -1))
    entropy = -p * np.log(p) - q * np.log(q)
    total = np.log(1 + np.e)
    expected = [p, 0, np.log(p), 1 - 2 * p, total, p, entropy, -p * (np.log(p) + entropy)]
    np.testing.assert_allclose(first, expected, rtol=1e-6)
    expected = [q, 0, np.log(q), 1 - 2 * q, total, q, entropy, -q * (np.log(q) + entropy)]
    np.testing.assert_allclose(second, expected, rtol=1e-6)


def compiled(x):
    part = torch.tensor(x).tensor_split(4, -1)[dist.get_rank()].contiguous()
    of, classes = group(4), torch.tensor([0, 3, 7])

    def function(x):
        loss = st.cross_entropy(x, classes, group=of, label_smoothing=0.1)
        y = st.softmax(x, group=of), st.log_softmax(x, group=of), st.entropy(x, group=of)
        return loss + sum((part * part).sum() for part in y) + st.logsumexp(x, group=of).sum()

    found = []
    warnings.simplefilter("ignore")  # PyTorch's of its own
    for traced in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        x = part.clone().requires_grad_()
        value = traced(x)
        value.backward()
        found += [array(value.detach()), array(x.grad)]
    warnings.simplefilter("error")
    return found


def test_it_compiles_whole(ranks):
    x = cases.numbers(3 * 8, "x").reshape(3, 8)
    for value, grad, of_graph, grad_of_graph in ranks(compiled, x):
        np.testing.assert_array_equal(value, of_graph)
        np.testing.assert_array_equal(grad, grad_of_graph)


# --- faults -------------------------------------------------------------------------------------------


def fault(name):
    rank, of = dist.get_rank(), group(4)
    x, target = torch.zeros(3, 5), torch.tensor([0, 1, 19])
    odd = rank == 2
    if name == "one rank raises":
        st.softmax(x.bool() if odd else x, group=of)
    elif name == "one rank has no tensor":
        st.cross_entropy(None if odd else x, target, group=of)
    elif name == "shapes":
        st.softmax(torch.zeros(4, 5) if odd else x, group=of)
    elif name == "dims":
        st.softmax(torch.zeros(1, 3, 5) if odd else x, group=of)
    elif name == "dtypes":
        st.log_softmax(x.double() if odd else x, group=of)
    elif name == "functions":
        (st.entropy if odd else st.logsumexp)(x, group=of)
    elif name == "scales":
        st.softmax(x, scale=2.0 if odd else 1.0, group=of)
    elif name == "gradients":
        st.softmax(x.requires_grad_(odd), group=of)
    elif name == "an empty row":
        st.softmax(x - torch.inf, empty="raise", group=of)
    elif name == "a class":
        st.cross_entropy(x, target + 1, group=of)
    elif name == "uneven":
        st.cross_entropy(torch.zeros(3, 6 if odd else 5), target, group=of)
    elif name == "a gap":
        st.cross_entropy(x, target, group=of, start=5 * rank + odd)
    elif name == "weights":
        st.cross_entropy(x, x, group=of)
    elif name == "whole scales":
        st.softmax(x, scale=3 if odd else 2, group=of)
    elif name == "keepdims":
        st.logsumexp(x, keepdim=odd, group=of)
    elif name == "reductions":
        st.cross_entropy(x, target, reduction="sum" if odd else "mean", group=of)
    elif name == "targets":
        st.cross_entropy(x, target - odd * target, group=of)
    elif name == "a class on one rank":
        st.cross_entropy(x, target + 80 * odd, group=of)
    elif name == "out on one rank":
        st.softmax(x, out=x if odd else None, group=of)
    elif name == "a dtype that is none":
        st.logsumexp(x, dtype="double" if odd else None, group=of)
    elif name == "no numbers on one rank":
        st.softmax(x.to("meta") if odd else x, group=of)
    elif name == "many dims":
        st.softmax(torch.zeros(*[1] * 8, 2 + odd, 5), group=of)
    elif name == "transforms":
        torch.func.grad(lambda x: st.softmax(x, group=of).sum())(x)
    elif name == "a DTensor":
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (4,))
        st.softmax(torch.distributed.tensor.distribute_tensor(x, mesh), group=of)
    elif name == "backwards":
        y, z = (st.softmax((x + i).requires_grad_(), group=of) for i in range(2))
        (z if odd else y).sum().backward()


OTHER, OWN = "RuntimeError", "rank 2 of the group raised"
FAULTS = {  # what rank 2 raises, what the others do, and what they say
    "one rank raises": ("TypeError", OTHER, OWN),
    "one rank has no tensor": ("TypeError", OTHER, OWN),
    "shapes": ("ValueError", "ValueError", r"shape (3, *) on rank 0 of the group and (4, *) on rank 2"),
    "dims": ("ValueError", "ValueError", r"shape (3, *) on rank 0 of the group and (1, 3, *) on rank 2"),
    "dtypes": ("TypeError", "TypeError", "torch.float32 on rank 0 of the group and torch.float64 on rank 2"),
    "functions": ("ValueError", "ValueError", "calls logsumexp and rank 2 calls entropy"),
    "scales": ("ValueError", "ValueError", "rank 2 of the group has another scale than rank 0"),
    "gradients": ("ValueError", "ValueError", "rank 2 of the group has another requires_grad than"),
    "an empty row": ("ValueError", "ValueError", "empty='raise'"),
    "a class": ("ValueError", "ValueError", "target[2] is 20, and x has the classes 0 to 19 along dim 1"),
    "uneven": ("ValueError", "ValueError", "have [5, 5, 6, 5] classes"),
    "a gap": ("ValueError", "ValueError", "begin with the classes [0, 5, 11, 15]"),
    "weights": ("TypeError", "TypeError", "where the classes are divided it takes classes"),
    "whole scales": ("ValueError", "ValueError", "has another scale than"),
    "keepdims": ("ValueError", "ValueError", "has another keepdim than"),
    "reductions": ("ValueError", "ValueError", "has another reduction than"),
    "targets": ("ValueError", "ValueError", "has another target than"),
    "a class on one rank": ("ValueError", "ValueError", "has another target than"),
    "out on one rank": ("TypeError", OTHER, OWN),
    "a dtype that is none": ("RuntimeError", OTHER, OWN),
    "no numbers on one rank": ("TypeError", OTHER, OWN),
    "many dims": ("ValueError", "ValueError", "1, …) on rank 0"),
    "transforms": ("NotImplementedError", "NotImplementedError", "don't go beside a group"),
    "a DTensor": ("TypeError", "TypeError", "leave group out"),
    "backwards": ("RuntimeError", "RuntimeError", "backwards of different calls"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_is_one_on_all_ranks(ranks, name):
    own, of_others, text = FAULTS[name]
    results = ranks(fault, name, errors=True)
    assert [result.kind for result in results] == [of_others, of_others, own, of_others]
    for result in [results[i] for i in (0, 1, 3)]:
        assert text in result.text
    x = cases.numbers(2 * N, "x").reshape(2, N)  # and the group is as good as before
    assert_softmax(in_group(ranks, "softmax", x, x, CUTS[4][0])[0], x)


def wrong_group(name):
    x = torch.zeros(2, 3)
    if name == "other":
        return st.softmax(x, group="world")
    if name == "mesh":
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2, 2))
        return st.softmax(x, group=mesh)
    if name == "out of a mesh":
        member = torch.distributed.device_mesh.DeviceMesh("cpu", [0, 1, 2])
    else:
        member = dist.new_group([0, 1, 2])
    return st.softmax(x, group=member).sum().item()


def test_groups_that_do_not_fit(ranks):
    assert all("takes a ProcessGroup" in r.text for r in ranks(wrong_group, "other", errors=True))
    assert all("DeviceMesh of 2 dims" in r.text for r in ranks(wrong_group, "mesh", errors=True))
    *members, outside = ranks(wrong_group, "out of a mesh", errors=True)
    assert "one that rank 3 is not in" in outside.text
    np.testing.assert_allclose(members, 2 / 3, rtol=1e-6)
    *members, outside = ranks(wrong_group, "out", errors=True)
    assert "one that rank 3 is not in" in outside.text
    np.testing.assert_allclose(members, 2 / 3, rtol=1e-6)


def test_options_without_a_group_or_beside_one():
    x = torch.zeros(2, 3)
    with pytest.raises(TypeError, match="start is for classes"):
        st.cross_entropy(x, torch.tensor([0, 1]), start=0)


def refused():
    x, of = torch.zeros(2, 3), group(4)
    for options in ({"sink": 0.0}, {"out": x}, {"reuse_dy": True}):
        with pytest.raises(TypeError, match=f"softmax takes no {next(iter(options))} beside a group"):
            st.softmax(x, group=of, **options)
    for function in (st.logsumexp, st.entropy, st.log_softmax):
        with pytest.raises(TypeError, match="takes no out beside a group"):
            function(x, group=of, out=x)


def test_options_beside_a_group(ranks):
    ranks(refused)


def alike():
    x = torch.zeros(2, 3)
    zero = 0 if dist.get_rank() else 0.0
    found = st.cross_entropy(x, torch.tensor([0, 1]), label_smoothing=zero, group=group(4))
    one = st.cross_entropy(torch.zeros(()), torch.tensor(2), group=group(4))  # a class on each rank
    return found.item(), one.item(), st.softmax(x, scale=2 if zero == 0 else 2.0, group=group(4)).sum().item()


def test_what_is_the_same_in_other_words(ranks):
    for result in ranks(alike):
        np.testing.assert_allclose(result, [np.log(12), np.log(4), 0.5], rtol=1e-6)


def uneven_graph():
    warnings.simplefilter("ignore")  # PyTorch's of its own
    x = torch.zeros(2, 3 + (dist.get_rank() == 1))
    loss = torch.compile(st.cross_entropy, fullgraph=True, backend="eager")
    found = loss(x, torch.tensor([0, 1]), group=group(4)).item()
    start = [0, 3, 7, 10][dist.get_rank()]
    told = loss(x, torch.tensor([0, 12]), group=group(4), start=start).item()
    warnings.simplefilter("error")
    return found, told


def test_uneven_classes_in_a_graph_are_nan_without_a_start(ranks):
    for found, told in ranks(uneven_graph):
        assert np.isnan(found)
        np.testing.assert_allclose(told, np.log(13), rtol=1e-6)


def test_distances_are_added_in_parts():
    x = torch.from_numpy(cases.numbers(2**21, "x").reshape(1024, -1))
    found = sharded_losses.distances(x, x[:, :1], -1)
    torch.testing.assert_close(found, (x[:, :1] - x).sum(-1, keepdim=True), rtol=1e-12, atol=1e-9)
    with Largest() as seen:
        sharded_losses.distances(x.float(), x[:, :1], -1)
    assert seen.elements <= 2**20


class Largest(TorchDispatchMode):
    """The most elements that an operation makes anew, in float64."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype is torch.float64:
            self.elements = max(self.elements, result.numel())
        return result


def softmax_again():
    return st.softmax(torch.zeros(2, 3), group=group(2)).sum().item()


def test_when_a_rank_is_killed_the_others_end():
    pair = Ranks(2, timeout=5)
    try:
        assert pair(softmax_again) == [pytest.approx(1.0)] * 2
        os.kill(pair.processes[1].pid, signal.SIGKILL)
        pair.processes[1].join()
        pair.pipes[0].send((softmax_again, ()))
        assert pair.answer(0).kind in ("RuntimeError", "DistBackendError", "DistNetworkError")
    finally:
        pair.close()


def test_nothing_of_it_is_loaded_before_it_is_asked():
    code = """
        import sys, softgrad
        assert "torch" not in sys.modules
        import torch, softgrad.torch as st
        st.softmax(torch.zeros(3))
        assert "torch.distributed.tensor" not in sys.modules
        """
    processes.run(code)
