"""Cross-entropy and its gradient: right on hard rows, in every layout, with the options as in PyTorch."""

import functools
import itertools
import warnings

import losses
import ml_dtypes
import mpmath
import numpy as np
import pytest
from contract import off_by, peak

from softgrad import CrossEntropy, cross_entropy, cross_entropy_with_vjp, formulas
from softgrad.testing import cases, errors

INF, NAN = float("inf"), float("nan")
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
LENGTHS = (1, 2, 3, 5, 16, 17, 33, 100, 257, 1000, 4097)

each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
each_axis = pytest.mark.parametrize("axis", [-1, 0])
each_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


# --- precision ---------------------------------------------------------------------------------------

CHECKS = {
    "classes": losses.check_classes,
    "weights": losses.check_weights,
    "smoothed classes": losses.check_smoothing,
    "smoothed weights": functools.partial(losses.check_weights, epsilon=0.1),
    "classes smoothed a little": functools.partial(losses.check_smoothing, epsilon=1e-6),
}
each_check = pytest.mark.parametrize("check", CHECKS)


@each_check
@each_dtype
@each_axis
def test_hard_rows(check, dtype, axis):
    for n in LENGTHS:
        CHECKS[check](cross_entropy_with_vjp, dtype, n, axis)


@each_dtype
@pytest.mark.parametrize("n", [32768, 131073])
def test_long_rows(dtype, n):
    losses.check_classes(cross_entropy_with_vjp, dtype, n)
    losses.check_smoothing(cross_entropy_with_vjp, dtype, n)
    losses.classes.cache_clear()  # the oracle's arrays are large


@pytest.mark.parametrize("n", [100, 100_000])
def test_one_number_again_and_again(n):
    """Adding it up loses the same bits each time."""
    for value, ahead in itertools.product((-3.3, -30.1), (1, 2)):
        x = np.full((1, n), value)
        x[0, :ahead] = 0.0
        loss, vjp = cross_entropy_with_vjp(x, [0], reduction="none")
        right, gradient, _ = losses.exact(x, losses.one_hot([0], n))
        assert losses.loss_error(loss, right).max() <= 4
        assert errors.row_error(vjp(), gradient).max() <= 4


@each_check
def test_the_right_function_passes(check):
    for dtype, n in itertools.product(cases.DTYPES, (1, 2, 17, 100)):
        CHECKS[check](losses.reference, dtype, n)


def rejected(check, function, dtype, n):
    with np.errstate(all="ignore"):
        try:
            CHECKS[check](function, dtype, n)
        except AssertionError:
            return True
    return False


@each_dtype
@pytest.mark.parametrize("mutant", losses.MUTANTS)
@pytest.mark.parametrize("check", ["classes", "weights", "smoothed classes"])
def test_a_wrong_one_does_not(check, mutant, dtype):
    if mutant == "usual, float64" and (check != "classes" or dtype == np.float16):
        pytest.skip("float64 has digits enough: for what is left to tell apart is no smaller than that")
    for n in (2, 5, 33, 257):
        assert rejected(check, losses.MUTANTS[mutant], dtype, n), n


@each_dtype
@pytest.mark.parametrize("mutant", losses.OF_WEIGHTS)
def test_a_wrong_one_of_weights_does_not(mutant, dtype):
    for n in (2, 5, 33, 257):
        assert rejected("smoothed weights", losses.OF_WEIGHTS[mutant], dtype, n), n


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("row", [[30, 0, -1], [800, 0, -2], [0.25, 0.5, 0.125], [1e-8, 0, 0], [9, 9, -50]])
def test_against_digits(row, epsilon, target):
    """mpmath, 400 digits, from the definition."""
    with mpmath.workdps(400):
        powers = [mpmath.exp(mpmath.mpf(v)) for v in row]
        p = [power / sum(powers) for power in powers]
        t = [(1 - mpmath.mpf(epsilon)) * (i == target) + mpmath.mpf(epsilon) / 3 for i in range(3)]
        loss = -sum(a * mpmath.log(b) for a, b in zip(t, p, strict=True))
        gradient = np.array([float(b - a) for a, b in zip(t, p, strict=True)])
    found, vjp = cross_entropy_with_vjp(row, target, label_smoothing=epsilon)
    assert abs(float(found) - float(loss)) <= 4 * errors.eps(FLOAT64) * float(loss)
    assert np.linalg.norm(vjp() - gradient) <= 4 * errors.eps(FLOAT64) * np.linalg.norm(gradient)


# --- the gradient is that of the loss ------------------------------------------------------------------


@each_reduction
@pytest.mark.parametrize("kind", ["classes", "weights"])
@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_finite_differences(reduction, kind, epsilon):
    x, v = (cases.numbers(5 * 7, key).reshape(5, 7) for key in "xv")
    target = np.arange(5) if kind == "classes" else np.abs(cases.numbers(35, "t")).reshape(5, 7)
    options = {"label_smoothing": epsilon, "reduction": reduction}
    if kind == "classes":
        options["ignore_index"] = 2
    loss, vjp = cross_entropy_with_vjp(x, target, **options)
    dloss = cases.numbers(5, "dloss") if reduction == "none" else -0.75
    h = 1e-4
    there, back = (cross_entropy(x + s * h * v, target, **options) for s in (1, -1))
    slope = (dloss * (there - back)).sum() / (2 * h)
    assert np.shape(loss) == np.shape(dloss)
    np.testing.assert_allclose((vjp(dloss) * v).sum(), slope, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_the_formulas(epsilon):
    import array_api_strict as xp

    x, t = cases.numbers(60, "x").reshape(5, 12), np.abs(cases.numbers(60, "t")).reshape(5, 12)
    loss, vjp = cross_entropy_with_vjp(x, t, label_smoothing=epsilon, reduction="none")
    x, t = xp.asarray(x), formulas.smoothed(xp.asarray(t), epsilon)
    assert off_by(loss, np.asarray(formulas.cross_entropy(x, t, xp)), ()) <= 3
    expected = np.asarray(formulas.cross_entropy_vjp(formulas.softmax(x, xp), t, xp))
    assert off_by(vjp(), expected) <= 3


# --- what PyTorch means --------------------------------------------------------------------------------


def by_torch(x, target, **options):
    torch = pytest.importorskip("torch")
    if options.get("ignore_index", 0) is None:
        del options["ignore_index"]
    leaf = torch.from_numpy(x).requires_grad_()
    loss = torch.nn.functional.cross_entropy(leaf, torch.as_tensor(target), **options)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach().numpy(), gradient.numpy()


def assert_as_torch(x, target, axis, within, **options):
    """PyTorch has the classes in axis 1, or in axis 0 of one row."""
    loss, vjp = cross_entropy_with_vjp(x, target, axis=axis, **options)
    expected, gradient = by_torch(x, target, **options)
    assert np.shape(loss) == expected.shape
    assert off_by(loss, expected, ()) <= within
    assert off_by(vjp(), gradient, axis) <= 8


@each_reduction
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4), (2, 5, 3, 4), (5,)], ids=str)
@pytest.mark.parametrize("ignored", [None, -100, 2])
def test_classes_as_in_torch(shape, epsilon, reduction, ignored):
    axis = min(1, len(shape) - 1)
    x = cases.numbers(int(np.prod(shape)), "x").reshape(shape)
    rows = shape[:axis] + shape[axis + 1 :]
    target = np.arange(np.prod(rows, dtype=int)).reshape(rows) * 3 % 5
    if ignored is not None and rows:
        target[..., 0] = ignored
    options = {"label_smoothing": epsilon, "reduction": reduction, "ignore_index": ignored}
    assert_as_torch(x, target, axis, 3, **options)


@each_reduction
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4), (2, 5, 3, 4), (5,)], ids=str)
def test_weights_as_in_torch(shape, epsilon, reduction):
    x, t = (cases.numbers(int(np.prod(shape)), key).reshape(shape) for key in "xt")
    options = {"label_smoothing": epsilon, "reduction": reduction}
    # also negative ones: what is left of a loss may be small beside its terms
    assert_as_torch(x, t, min(1, len(shape) - 1), 100, **options)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_every_row_ignored(reduction):
    x = np.full((3, 4), NAN)
    loss, vjp = cross_entropy_with_vjp(x, [-1, -1, -1], ignore_index=-1, reduction=reduction)
    np.testing.assert_equal(float(loss), NAN if reduction == "mean" else 0.0)
    np.testing.assert_array_equal(vjp(), np.zeros((3, 4)))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0), (2, 0, 4)], ids=str)
def test_nothing_at_all(shape):
    x = np.empty(shape, np.float32)
    for target in (x, np.full(shape[:1] + shape[2:], -1)):
        ignored = None if target is x else -1
        loss, vjp = cross_entropy_with_vjp(x, target, axis=1, ignore_index=ignored, reduction="none")
        assert loss.shape == shape[:1] + shape[2:]
        assert not loss.any()
        assert vjp().shape == shape
        assert cross_entropy(x, target, axis=1, ignore_index=ignored, reduction="sum") == 0
    assert np.isnan(cross_entropy(np.empty((0, 4)), np.empty((0, 4))))


# --- rows that are not numbers -------------------------------------------------------------------------


def test_a_class_that_is_impossible():
    x = [[1.0, -INF, 1.0], [1.0, -INF, 1.0]]
    loss, vjp = cross_entropy_with_vjp(x, [0, 1], reduction="none")
    assert off_by(loss, np.array([np.log(2), INF]), ()) <= 1
    np.testing.assert_array_equal(vjp(), [[-0.5, 0, 0.5], [0.5, -1, 0.5]])
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    loss, vjp = cross_entropy_with_vjp(x, weights, reduction="none")
    assert off_by(loss, np.array([np.log(2), INF]), ()) <= 1
    np.testing.assert_array_equal(vjp(), [[-0.5, 0, 0.5], [0.5, -1, 0.5]])
    loss, vjp = cross_entropy_with_vjp(x, [0, 1], label_smoothing=0.3, reduction="none")
    np.testing.assert_array_equal(loss, [INF, INF])
    assert off_by(vjp(), np.array([[-0.3, -0.1, 0.4], [0.4, -0.8, 0.4]])) <= 1
    np.testing.assert_array_equal(cross_entropy(x, [0, 1], label_smoothing=1, reduction="none"), [INF, INF])


ROWS_OF_NAN = [[NAN, 1, 2], [1, NAN, 2], [NAN, NAN, NAN], [INF, 1, 2], [INF, INF, 0], [-INF, -INF, -INF]]


@pytest.mark.parametrize("n", [3, 64])
@pytest.mark.parametrize("kind", ["classes", "weights", "no weights"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@each_axis
def test_rows_that_are_nan_stay_alone(n, kind, epsilon, axis):
    x = np.zeros((13, n), np.float32)
    x[1::2, :3] = ROWS_OF_NAN
    if n > 3:
        x[-2] = -INF
    target = np.full(13, 1) if kind == "classes" else losses.one_hot(np.full(13, 1), n) * (kind == "weights")
    loss, dx = losses.both(cross_entropy_with_vjp, x, target, axis, label_smoothing=epsilon)
    assert np.isnan(loss[1::2]).all()
    assert np.isnan(dx[1::2]).all()
    assert np.isfinite(loss[::2]).all()
    assert np.isfinite(dx[::2]).all()
    assert np.isnan(cross_entropy(x, target))


def test_rows_that_do_not_count_may_hold_anything():
    x = np.array([[NAN, INF], [0.0, 0.0], [-INF, -INF]])
    loss, vjp = cross_entropy_with_vjp(x, [7, 1, 7], ignore_index=7)
    assert off_by(loss, np.log(2), ()) <= 1
    np.testing.assert_array_equal(vjp(), [[0, 0], [0.5, -0.5], [0, 0]])
    loss, vjp = cross_entropy_with_vjp(x, [7, 1, 7], ignore_index=7, reduction="none")
    np.testing.assert_array_equal(vjp([NAN, 2, INF]), [[0, 0], [1, -1], [0, 0]])


def test_logits_of_any_size():
    loss, vjp = cross_entropy_with_vjp([[1e308, -1e308], [1e308, 1e308]], [0, 1], reduction="none")
    assert off_by(loss, np.array([0, np.log(2)]), ()) <= 1
    np.testing.assert_array_equal(vjp(), [[0, 0], [0.5, -0.5]])
    x = np.array([[3e38, -3e38]], np.float32)
    weights = np.array([[0.9, 0.1]], np.float32)
    assert off_by(cross_entropy(x, weights), np.float32(6e37), ()) <= 1
    assert cross_entropy(x, [1]) == INF  # 6e38 is no float32
    assert cross_entropy(np.zeros((9, 9), np.float16) + np.float16(6e4), np.arange(9)).dtype == np.float16


def test_one_class():
    for target in ([0], np.ones((1, 1))):
        loss, vjp = cross_entropy_with_vjp([[3.0]], target)
        assert loss == 0
        assert vjp() == 0


def test_no_axis_at_all():
    for target in (0, np.float32(1)):
        loss, vjp = cross_entropy_with_vjp(np.float32(3), target, reduction="none")
        assert type(loss) is type(vjp()) is type(vjp(2.0)) is np.float32
        assert loss == vjp() == 0
    out = np.array(7.0)
    assert cross_entropy_with_vjp(3.0, 0, out=out)[1]() is out
    assert out == 0
    assert vjp(2.0, out=(out := np.array(7, np.float32))) is out


# --- layouts -------------------------------------------------------------------------------------------

SHAPES = [((7, 20), 1), ((40, 50), 0), ((3, 100, 4), 1), ((3, 5, 64), 1), ((5, 3, 300), 2), ((2, 9, 3, 5), 1)]
VIEWS = {
    "as it is": lambda a: a,
    "Fortran order": np.asfortranarray,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "axes exchanged": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
    "first two exchanged": lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["classes", "weights"])
def test_every_layout(view, shape, axis, kind):
    """Of the logits, of the result, and of the weights; the loss of each row must come out in its place."""
    x = VIEWS[view](cases.numbers(int(np.prod(shape)), "x").reshape(shape).astype(np.float32) * 3)
    rows = shape[:axis] + shape[axis + 1 :]
    target = np.arange(np.prod(rows)).reshape(rows) * 7 % shape[axis]
    weights = np.moveaxis(losses.one_hot(target, shape[axis]), -1, axis).astype(np.float32)
    if kind == "weights":
        weights += 0.125
    right, gradient, _ = losses.exact(np.moveaxis(x, axis, -1), np.moveaxis(weights, axis, -1))
    options = {"axis": axis, "reduction": "none"}

    for other in ("as it is", "axes exchanged", "reversed"):
        given = VIEWS[other](weights if kind == "weights" else target)
        out = VIEWS[other](np.full(shape, NAN, np.float32))
        loss, vjp = cross_entropy_with_vjp(x, given, out=out, **options)
        assert vjp() is out
        assert losses.loss_error(loss, right).max() <= 2
        assert losses.near(np.moveaxis(out, axis, -1), gradient, np.sqrt((gradient**2).sum(-1))).max() <= 2
        np.testing.assert_array_equal(cross_entropy(x, given, **options), loss)
        np.testing.assert_array_equal(cross_entropy_with_vjp(x, given, **options)[1](), out)
        if view != "broadcast":
            again = x.copy(order="K")
            assert cross_entropy_with_vjp(again, given, out=again, **options)[1]() is again
            np.testing.assert_array_equal(again, out)


@each_dtype
@each_axis
def test_out_over_the_logits_or_the_weights(dtype, axis):
    for n in (5, 100, 140_000):
        x, t = (cases.numbers(2 * n, key).reshape(2, n).astype(dtype) for key in "xt")
        classes = np.arange(n if axis == 0 else 2) % 2
        for target in (t, classes):
            _, vjp = cross_entropy_with_vjp(x, target, axis=axis)
            given = x.copy()
            assert cross_entropy_with_vjp(given, target, axis=axis, out=given)[1]() is given
            assert given.tobytes() == vjp().tobytes()
        given = t.copy()
        _, vjp = cross_entropy_with_vjp(x, t, axis=axis)
        cross_entropy_with_vjp(x, given, axis=axis, out=given)
        assert given.tobytes() == vjp().tobytes()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64])
def test_classes_of_any_type(dtype):
    x = cases.numbers(35, "x").reshape(5, 7)
    target = np.array([6, 0, 3, 3, 1])
    assert cross_entropy(x, target.astype(dtype)) == cross_entropy(x, target)
    with pytest.raises(ValueError, match="target"):
        cross_entropy(x, np.array([6, 0, 3, 3, np.iinfo(dtype).max], dtype))
    # no target is -100 if the type has no such number
    assert cross_entropy(x, target.astype(dtype), ignore_index=-100) == cross_entropy(x, target)


def test_dtypes_that_meet():
    x, t = np.zeros((2, 2), np.float32), np.full((2, 2), 0.5)
    for given, weights, result in [
        (x, t, np.float64),
        (x.astype(ml_dtypes.bfloat16), t.astype(np.float32), np.float32),
        (x.astype(int), t.astype(np.float16), np.float64),
        (x.astype(np.float16), [0, 1], np.float16),
        (x.astype(int), [0, 1], np.float64),
    ]:
        loss, vjp = cross_entropy_with_vjp(given, weights)
        assert loss.dtype == vjp().dtype == result


@each_dtype
def test_the_loss_of_many_rows(dtype):
    """Rows are added up in float64; in float16 the sum of these would be beyond it on the way."""
    x = np.zeros((40_000, 2), dtype)
    x[:, 0] = 40
    assert cross_entropy(x, np.ones(40_000, int)) == dtype.type(40)
    with np.errstate(over="ignore"):
        assert cross_entropy(x, np.ones(40_000, int), reduction="sum") == np.float64(1.6e6).astype(dtype)


# --- vjp -----------------------------------------------------------------------------------------------


@each_dtype
def test_vjp_for_another_gradient_of_the_loss(dtype):
    x, target = cases.numbers(35, "x").reshape(5, 7).astype(dtype), np.arange(5)
    _, vjp = cross_entropy_with_vjp(x, target)
    dx = vjp()
    assert vjp() is vjp(1) is vjp(np.ones((), np.float32)) is dx
    before = dx.copy()
    for dloss in (0.3, np.float32(0.3), 70000):
        expected = (before.astype(np.float64) * float(dloss)).astype(dtype)
        np.testing.assert_array_equal(vjp(dloss), expected)
        np.testing.assert_array_equal(vjp(dloss), expected)  # the first changed nothing
    out = np.empty((7, 5), dtype).T
    assert vjp(0.5, out=out) is out
    np.testing.assert_array_equal(out, vjp(0.5))
    np.testing.assert_array_equal(vjp(out=np.empty_like(dx)), dx)
    assert vjp(0.5, out=dx) is dx
    np.testing.assert_array_equal(dx, out)


def test_vjp_for_a_gradient_of_each_loss():
    x, target = cases.numbers(70, "x").reshape(5, 7, 2), np.zeros((5, 2), int)
    _, vjp = cross_entropy_with_vjp(x, target, axis=1, reduction="none")
    dloss = cases.numbers(10, "dloss").reshape(5, 2)
    np.testing.assert_array_equal(vjp(dloss), vjp() * dloss[:, None, :])
    np.testing.assert_array_equal(vjp(2), vjp() * 2)
    for shape in ((5,), (2,), (5, 1, 2), (1,)):
        with pytest.raises(ValueError, match=r"dloss has shape.*\(5, 2\)"):
            vjp(np.ones(shape))
    with pytest.raises(TypeError, match="dloss"):
        vjp("1")
    with pytest.raises(ValueError, match="out has shape"):
        vjp(2, out=np.empty((5, 7)))


def test_the_layer():
    x, target = cases.numbers(35, "x").reshape(5, 7), np.array([0, 1, 2, -1, 3])
    options = {"label_smoothing": 0.1, "ignore_index": -1, "reduction": "sum"}
    layer = CrossEntropy(-1, **options)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward()
    loss, vjp = cross_entropy_with_vjp(x, target, **options)
    assert layer.forward(x, target, out=x) == loss
    assert layer.backward() is x
    np.testing.assert_array_equal(layer.backward(0.5), vjp(0.5))
    shown = "CrossEntropy(axis=-1, label_smoothing=0.1, ignore_index=-1, reduction='sum', "
    assert repr(layer) == f"{shown}weight=None, z_loss=0.0, dtype=None)"


# --- threads and memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "step"),
    [
        ((1000, 1000), -1, 1),
        ((1000, 1000), 0, 1),
        ((30, 40000), 0, 1),
        ((8, 128256), -1, 1),
        ((200000, 8), -1, 1),
        ((100, 100, 100), 1, 1),
        ((1000, 2000), -1, 2),
    ],
    ids=str,
)
def test_the_same_bits_for_any_number_of_threads(number_of_threads, shape, axis, step):
    x = cases.numbers(int(np.prod(shape)), "x").reshape(shape).astype(np.float32)[..., ::step]
    target = np.zeros(np.delete(x.shape, axis), int)
    found = []
    for number in (1, 2, 3, 7):
        number_of_threads(number)
        results = []
        for given in (target, x):
            loss, vjp = cross_entropy_with_vjp(x, given, axis=axis)
            results += [loss.tobytes(), vjp().tobytes(), cross_entropy(x, given, axis=axis).tobytes()]
        found.append(results)
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("view", ["as it is", "Fortran order", "strided", "every other row"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@each_axis
def test_memory(number_of_threads, view, epsilon, axis):
    """16 MB of logits; a mask of them would be 4."""
    number_of_threads(1)
    x = VIEWS[view](np.full((2048, 2048), 0.001, np.float32))
    out = np.empty_like(x)
    options = {"axis": axis, "label_smoothing": epsilon}
    small = 4_000_000
    for target in (np.arange(2048), np.where(np.arange(2048) % 3, 5, -1), x):
        ignored = None if target is x else -1
        assert peak(cross_entropy, x, target, ignore_index=ignored, **options)[0] < small
        most, _ = peak(cross_entropy_with_vjp, x, target, ignore_index=ignored, out=out, **options)
        assert most < small
        most, (_, vjp) = peak(cross_entropy_with_vjp, x, target, ignore_index=ignored, **options)
        assert x.nbytes <= most < x.nbytes + small
        assert peak(vjp)[0] < small
        assert peak(vjp, 0.5, out=out)[0] < small


def test_memory_of_a_row(number_of_threads):
    """What is kept of a row while the losses are put together, whatever n is."""
    number_of_threads(1)
    rows = 100_000
    x, out = np.zeros((2, rows, 4), np.float32)
    target = np.arange(rows) % 5 - 1
    options = {"ignore_index": -1, "label_smoothing": 0.1}
    assert peak(cross_entropy_with_vjp, x, target, out=out, **options)[0] < 90 * rows
    assert peak(cross_entropy_with_vjp, x, x, out=out)[0] < 90 * rows


# --- bad input -----------------------------------------------------------------------------------------

GOOD = np.zeros((2, 3), np.float32)
BAD = {
    "class too large": (([0, 3],), {}, ValueError, r"target\[1\] is 3.*classes 0 to 2 along axis 1"),
    "class below 0": (([-1, 0],), {}, ValueError, r"target\[0\] is -1.*ignore_index=-1"),
    "not the ignored": (([-1, -100],), {"ignore_index": -100}, ValueError, r"target\[0\] is -1"),
    "too few": (([0],), {}, ValueError, r"target has shape \(1,\).*without axis 1, which is \(2,\)"),
    "a column": (([[0], [1]],), {}, ValueError, r"target has shape \(2, 1\)"),
    "one": ((0,), {}, ValueError, r"target has shape \(\)"),
    "whole weights": ((np.eye(2, 3, dtype=int),), {}, ValueError, r"astype\(float\) if it holds weights"),
    "classes as floats": (([0.0, 1.0],), {}, ValueError, r"weights take the shape of x, \(2, 3\).*int64"),
    "weights of a row": (([1.0, 0.0, 0.0],), {}, ValueError, "softgrad|weights take the shape of x"),
    "booleans": ((np.eye(2, 3, dtype=bool),), {}, TypeError, "target has dtype bool"),
    "complex": ((np.zeros((2, 3), complex),), {}, TypeError, "target has dtype complex"),
    "masked": ((np.ma.zeros(2, int),), {}, TypeError, "target is a masked array"),
    "no target": ((None,), {}, TypeError, "target has dtype object"),
    "axis of the wrong kind": (([0, 1],), {"axis": None}, TypeError, "axis=None.*one axis"),
    "two axes": (([0, 1],), {"axis": (0, 1)}, TypeError, r"axis=\(0, 1\)"),
    "no such axis": (([0, 1],), {"axis": 2}, np.exceptions.AxisError, "axis"),
    "smoothing below 0": (([0, 1],), {"label_smoothing": -0.1}, ValueError, "label_smoothing=-0.1.*0 to 1"),
    "smoothing above 1": (([0, 1],), {"label_smoothing": 1.5}, ValueError, "label_smoothing=1.5"),
    "smoothing nan": (([0, 1],), {"label_smoothing": NAN}, ValueError, "label_smoothing=nan"),
    "smoothing no number": (([0, 1],), {"label_smoothing": "0"}, TypeError, "real number, not str"),
    "smoothing yes": (([0, 1],), {"label_smoothing": True}, TypeError, "real number, not bool"),
    "ignore 1.0": (([0, 1],), {"ignore_index": 1.0}, TypeError, "ignore_index takes a whole number.*float"),
    "ignore a weight": ((GOOD,), {"ignore_index": 1}, ValueError, "ignore_index is for targets.*classes"),
    "reduction": (([0, 1],), {"reduction": "avg"}, ValueError, "'avg': it takes 'mean', 'sum', 'none'"),
    "no reduction": (([0, 1],), {"reduction": None}, ValueError, "reduction=None"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad):
    arguments, options, error, text = BAD[bad]
    with pytest.raises(error, match=text):
        cross_entropy(GOOD, *arguments, **options)
    out = np.full_like(GOOD, 7)
    with pytest.raises(error, match=text):
        cross_entropy_with_vjp(GOOD, *arguments, out=out, **options)
    assert (out == 7).all()


@pytest.mark.parametrize("x", [np.ones((2, 3), bool), np.ones((2, 3), complex), np.ma.zeros((2, 3)), "x"])
def test_bad_logits(x):
    with pytest.raises(TypeError, match="x "):
        cross_entropy(x, [0, 1])


def test_a_bad_out():
    room = np.zeros((3, 3), np.float32)
    for out, error, text in [
        (np.zeros((2, 3)), TypeError, "out has dtype float64"),
        (np.zeros((3, 2), np.float32), ValueError, "out has shape"),
        (cases.read_only(np.zeros((2, 3), np.float32)), ValueError, "read-only"),
        (room[1:], ValueError, "out overlaps x in part"),
        ([0.0], TypeError, "out takes a numpy.ndarray"),
    ]:
        with pytest.raises(error, match=text):
            cross_entropy_with_vjp(room[:2], [0, 1], out=out)
    with pytest.raises(ValueError, match="out overlaps target in part"):
        cross_entropy_with_vjp(GOOD, room[:2], out=room[1:])
    assert not room.any()


def test_inputs_are_never_written_and_nothing_is_printed(capfd):
    x, t = cases.read_only(np.full((3, 4), 5.0)), cases.read_only(np.full((3, 4), 0.25))
    classes = cases.read_only(np.array([0, 9, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (x, x * INF, x * NAN, -x * INF, x.astype(np.float16) * np.float16(1e4)):
            for target, ignored in ((t, None), (classes, 9)):
                for reduction in ("mean", "sum", "none"):
                    _, vjp = cross_entropy_with_vjp(given, target, ignore_index=ignored, reduction=reduction)
                    vjp(1e300)
    np.testing.assert_array_equal(classes, [0, 9, 1])
    assert capfd.readouterr() == ("", "")
