"""softgrad.testing as its users see it: what is wrong is rejected and named, what is right passes."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest
import torch

from softgrad import formulas, softmax_vjp
from softgrad.testing import (
    Finding,
    again,
    cases,
    check_double_backward,
    check_forward,
    check_jvp,
    check_vjp,
    errors,
    mutants,
    planned,
    properties,
    run,
)
from softgrad.verify import load

# Next to the function, so that a dtype comes after the other: exact results are kept for a while.
each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)


def wide(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def closed_form(y, dy, axis=-1):
    """y∘(dy − Σ y∘dy), 16-bit types in float32."""
    a, b = y.astype(wide(y.dtype)), dy.astype(wide(y.dtype))
    return (a * (b - (a * b).sum(axis, keepdims=True))).astype(y.dtype)


# --- wrong ones: the formulas, and slips of other kinds -----------------------------------------------


def half_sum(kind):
    """Each partial sum is rounded to a 16-bit type."""

    def function(y, dy):
        products = (y * dy).astype(kind)
        total = np.zeros((len(y), 1), kind)
        for k in range(y.shape[1]):
            total = (total + products[:, k : k + 1]).astype(kind)
        return (y * (dy - total.astype(y.dtype))).astype(y.dtype)

    return function


def writes_to_dy(y, dy):
    dy -= (y * dy).sum(axis=-1, keepdims=True).astype(dy.dtype)
    return y * dy


def returns_dy(y, dy):
    dy[...] = closed_form(y, dy)
    return dy


def without_nan(a):
    return np.where(np.isnan(a), 0, a).astype(a.dtype)


def no_nan(y, dy):
    return closed_form(without_nan(y), without_nan(dy))


def other_float(dtype):
    return np.float32 if dtype == np.float64 else np.float64


BUFFERS = {}


def one_buffer(y, dy):
    """The result of each shape is kept, and written again by the next call."""
    buffer = BUFFERS.setdefault((y.shape, y.dtype), np.empty_like(y))
    buffer[...] = closed_form(y, dy)
    return buffer


def vectors_only(y, dy):
    """A kernel that takes 16 elements at a time, and forgets the rest."""
    n = y.shape[-1]
    whole = np.arange(n) < max(n // 16 * 16, 1)
    products = (y * dy) * whole.astype(y.dtype)
    return np.where(whole, y * (dy - products.astype(np.float64).sum(-1, keepdims=True)), 0).astype(y.dtype)


def as_it_lies(y, dy):
    """A kernel that is given the memory, and takes it for rows."""
    a, b = (np.reshape(x.ravel(order="K"), x.shape) for x in (y, dy))
    return closed_form(a, b)


def noisy(y, dy):
    """Atomic additions in any order."""
    noise = 1 + np.random.default_rng().choice([-1, 1], size=(len(y), 1)) * errors.eps(y.dtype)
    m = (y.astype(np.float64) * dy.astype(np.float64)).sum(-1, keepdims=True) * noise
    return (y * (dy.astype(np.float64) - m)).astype(y.dtype)


def smoothed(y, dy):
    """With a small number against a division by 0."""
    a, b = y.astype(np.float64), dy.astype(np.float64)
    return (a * (b - (a * b).sum(-1, keepdims=True) / (a.sum(-1, keepdims=True) + 0.05))).astype(y.dtype)


def block_of_1024(y, dy):
    """A kernel with one block a row."""
    keep = (np.arange(y.shape[-1]) < 1024).astype(y.dtype)
    return (closed_form(y * keep, dy * keep)).astype(y.dtype)


def raises(y, dy):
    raise RuntimeError("no kernel for it")


def not_written_to(y, dy):
    """Works in place on its input, and puts it back: no read-only array can be given."""
    kept = dy.copy()
    dy[...] = closed_form(y, dy)
    result = dy.copy()
    dy[...] = kept
    return result


def wrong_if(condition):
    """Right but for the end of each row where a condition holds, of y and dy."""

    def function(y, dy):
        dx = closed_form(y, dy)
        if condition(y, dy):
            dx[..., -((y.shape[-1] + 2) // 3) :] = 0
        return dx

    return function


def in_place_if_long(y, dy):
    if y.shape[-1] > 64 and dy.flags.writeable:
        dy[...] = closed_form(y, dy)
    return closed_form(y, dy)


def in_place_by_columns(y, dy):
    if not dy.flags.c_contiguous and dy.flags.writeable:
        dy *= 2
    return closed_form(y, dy)


ROOMS = []


def two_buffers(y, dy):
    """Results in turns."""
    if not ROOMS or ROOMS[0].shape != y.shape or ROOMS[0].dtype != y.dtype:
        ROOMS[:] = [np.empty_like(y), np.empty_like(y)]
    ROOMS.reverse()
    ROOMS[0][...] = closed_form(y, dy)
    return ROOMS[0]


def strides_of_y(y, dy):
    """A kernel that takes dy to lie as y does."""
    lies = np.lib.stride_tricks.as_strided(dy, y.shape, y.strides) if dy.flags.c_contiguous else dy
    return closed_form(y, lies)


def of_dy(change):
    """Right for another dy than is given."""
    return lambda y, dy: closed_form(y, change(dy).astype(dy.dtype))


SLIPS = {
    "a multiple of 64": wrong_if(lambda y, dy: y.shape[-1] % 64 == 0),
    "a multiple of 1024": wrong_if(lambda y, dy: y.shape[-1] % 1024 == 0),
    "34 to 36": wrong_if(lambda y, dy: 33 < y.shape[-1] < 37),
    "64 rows": wrong_if(lambda y, dy: len(y) == 64),
    "a large array": wrong_if(lambda y, dy: y.size > 300_000),
    "a flat row": wrong_if(lambda y, dy: y.shape[-1] > 1 and bool((y == y[..., :1]).all(axis=-1).any())),
    "broadcast": wrong_if(lambda y, dy: 0 in dy.strides and dy.size > 1),
    "no large gradient": of_dy(lambda dy: np.clip(dy, -500, 500)),
    "no small gradient": of_dy(lambda dy: np.where(np.abs(dy) < 1e-3, 0, dy)),
    "clipped": of_dy(lambda dy: np.clip(dy, -50, 50)),
    "in place if long": in_place_if_long,
    "in place by columns": in_place_by_columns,
    "two buffers": two_buffers,
    "strides of y": strides_of_y,
    "float64 out": lambda y, dy: closed_form(y, dy).astype(other_float(y.dtype)),
    "wide if long": lambda y, dy: closed_form(y, dy).astype(
        y.dtype if y.shape[-1] < 64 else other_float(y.dtype)
    ),
    "a sum in float16": half_sum("float16"),
    "a sum in bfloat16": half_sum(cases.DTYPES[1]),
    "writes to dy": writes_to_dy,
    "returns dy": returns_dy,
    "no NaN": no_nan,
    "no NaN at the end": lambda y, dy: without_nan(closed_form(y, dy)),
    "one buffer": one_buffer,
    "vectors only": vectors_only,
    "as it lies": as_it_lies,
    "noisy": noisy,
    "squeezed": lambda y, dy: closed_form(y, dy).squeeze(),  # one row comes back as a vector
    "smoothed": smoothed,
    "block of 1024": block_of_1024,
    "raises": raises,
    "not written to": not_written_to,
    "a list": lambda y, dy: closed_form(y, dy).tolist(),
}


@pytest.mark.parametrize("slip", SLIPS)
@each_dtype
def test_a_slip_is_rejected(slip, dtype):
    with pytest.raises(AssertionError):
        check_vjp(SLIPS[slip], dtypes=[dtype])


# --- right ones, of different style ------------------------------------------------------------------


def plain(y, dy, axis=-1):
    return y * (dy - np.sum(y * dy, axis=axis, keepdims=True))


def by_jacobian_of_each_row(y, dy):
    """As it is often published: diag(y) − y yᵀ, in a loop over the rows."""
    rows = zip(y[:, :, None], dy, strict=True)
    return np.stack([(np.diagflat(s) - np.dot(s, s.T)) @ one for s, one in rows])


def float64_inside(y, dy):
    return plain(y.astype(np.float64), dy.astype(np.float64)).astype(y.dtype)


def grad_minus_mean_first(y, dy):
    """PyTorch's: grad·y − y·Σ grad·y."""
    products = y * dy
    return products - y * products.sum(-1, keepdims=True)


@numba.njit
def loop(y, dy):
    dx = np.empty_like(y)
    for i in range(y.shape[0]):
        total = y[i, 0] * dy[i, 0]
        for k in range(1, y.shape[1]):
            total += y[i, k] * dy[i, k]
        for k in range(y.shape[1]):
            dx[i, k] = y[i, k] * (dy[i, k] - total)
    return dx


def through_out(y, dy):
    """In place, in an array of its own."""
    dx = np.multiply(y, dy)
    total = dx.sum(axis=-1, keepdims=True)
    np.subtract(dy, total, out=dx)
    return np.multiply(y, dx, out=dx)


def tensor(array):
    return torch.tensor(np.ascontiguousarray(array))


def torch_closed_form(y, dy):
    return torch.ops.aten._softmax_backward_data(tensor(dy), tensor(y), -1, tensor(y).dtype).numpy()


def torch_autograd(y, dy):
    """Of softmax at log y."""
    logits = torch.log(tensor(y)).requires_grad_()
    return torch.autograd.grad(torch.softmax(logits, -1), logits, tensor(dy))[0].numpy()


@jax.jit
def pulled_back(y, dy):
    _, pullback = jax.vjp(jax.nn.softmax, jnp.log(y))
    return pullback(dy)[0]


def jax_vjp(y, dy):
    """Of softmax at log y."""
    with jax.enable_x64(True):
        return np.array(pulled_back(y, dy))


# with the longest rows: JAX compiles for each shape, and 2500 matrices of 257 rows are 1.3 GB
RIGHT = {
    "plain": (plain, None),
    "by the Jacobian": (lambda y, dy: formulas.softmax_vjp_by_jacobian(y, dy, np), 129),
    "by the Jacobian of each row": (by_jacobian_of_each_row, 129),
    "by einsum": (lambda y, dy: y * dy - np.einsum("ij,i->ij", y, np.einsum("ij,ij->i", y, dy)), None),
    "float64 inside": (float64_inside, None),
    "divided by the sum": (
        lambda y, dy: y * (dy - (y * dy).sum(-1, keepdims=True) / y.sum(-1, keepdims=True)),
        None,
    ),
    "grad minus mean": (grad_minus_mean_first, None),
    "a loop": (loop, None),
    "in an array of its own": (through_out, None),
    "torch, closed form": (torch_closed_form, None),
    "torch, autograd": (torch_autograd, None),
    "jax.vjp": (jax_vjp, 3),
    "softgrad": (softmax_vjp, None),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_vjp_passes(name):
    function, max_n = RIGHT[name]
    check_vjp(function, max_n=max_n)


def test_the_next_function_is_tested_on_cases_that_are_there():
    """The exact results take most of the time."""
    check_vjp(plain)
    before = properties.drawn.cache_info().misses
    check_vjp(closed_form)
    assert properties.drawn.cache_info().misses == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", [closed_form, softmax_vjp], ids=lambda function: function.__name__)
def test_a_right_vjp_of_16_bits_passes(function, dtype):
    check_vjp(function, dtypes=[dtype], axis=(-1, 0))


def plain_softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def jax_softmax(x):
    with jax.enable_x64(True):
        return np.array(jax.nn.softmax(jnp.asarray(x), axis=-1))


def by_log_softmax(x):
    t = x - x.max(axis=-1, keepdims=True)
    return np.exp(t - np.log(np.exp(t).sum(axis=-1, keepdims=True)))


def by_powers_of_2(x):
    """As flash attention does."""
    e = np.exp2((x - x.max(axis=-1, keepdims=True)) * x.dtype.type(np.log2(np.e)))
    return e / e.sum(axis=-1, keepdims=True)


def torch_softmax(x):
    return torch.softmax(tensor(x), -1).numpy()


@pytest.mark.parametrize(
    "function", [plain_softmax, torch_softmax, jax_softmax, by_log_softmax, by_powers_of_2]
)
def test_a_right_softmax_passes(function):
    check_forward(function, max_n=3 if function is jax_softmax else None)


def test_a_right_jvp_passes():
    check_jvp(plain, axis=(0, -1))


def double_backward(y, dy, v):
    return formulas.softmax_double_backward(y, dy, v, np)


def test_a_right_double_backward_passes():
    check_double_backward(double_backward)


def test_tight_is_tighter():
    for check, fn in [
        (check_vjp, plain),
        (check_jvp, plain),
        (check_forward, plain_softmax),
        (check_double_backward, double_backward),
    ]:
        with pytest.raises(AssertionError):
            check(fn, level="tight")


# --- the message about a wrong one ---------------------------------------------------------------------


def message_of(check, fn, **options):
    with pytest.raises(AssertionError) as error:
        check(fn, **options)
    return str(error.value)


KNOWN = [
    (check, table, name)
    for check, table in (
        (check_vjp, mutants.FORMULAS),
        (check_forward, mutants.SOFTMAXES),
        (check_double_backward, mutants.DOUBLE_BACKWARDS),
    )
    for name in table
]


@pytest.mark.parametrize(("check", "table", "name"), KNOWN)
@each_dtype
def test_the_first_line_names_a_known_mistake(check, table, name, dtype):
    first = message_of(check, mutants.rounded_once(table[name].formula), dtypes=[dtype]).splitlines()[0]
    if name == "times 1.01" and dtype == cases.DTYPES[1]:  # it can't show it in one row
        assert re.search(r"the results are 1\.0(1|09)\S* times the right ones", first)
    elif name == "uniform" and check is check_vjp and dtype == np.float16:  # what sums to 0 has the mean 0
        assert "all zeros" in first
    else:
        assert table[name].message in first


@pytest.mark.parametrize("name", ["y(1−y)∘dy", "no mean", "arguments swapped", "other axis", "sum of all"])
@each_dtype
def test_the_first_line_names_it_along_another_axis(name, dtype):
    first = message_of(check_vjp, mutants.MUTANTS[name], dtypes=[dtype], axis=0).splitlines()[0]
    assert mutants.FORMULAS[name].message in first


@each_dtype
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_half_precision_sum_is_named(kind, dtype):
    if dtype.itemsize == 2 and dtype != kind:
        pytest.skip("a sum of other bits than the rest")
    assert "half-precision sum" in message_of(check_vjp, half_sum(kind), dtypes=[dtype]).splitlines()[0]


def test_a_single_precision_sum_in_float64_is_named():
    def function(y, dy):
        return y * (dy - (y * dy).astype(np.float32).sum(-1, keepdims=True))

    assert "single-precision sum" in message_of(check_vjp, function, dtypes=["float64"]).splitlines()[0]


def test_what_is_not_known_is_not_guessed():
    first = message_of(check_vjp, SLIPS["clipped"]).splitlines()[0]
    assert re.match(r"fn: contract fails: logits .*: off by \S+ times what is allowed", first)


def test_the_smallest_case_is_shown_in_numbers():
    message = message_of(check_vjp, mutants.MUTANTS["no mean"])
    assert "check: contract" in message
    assert "1 row of 1, float32" in message
    assert re.search(r"given \[1\], \[\S+\]\n +due +\[0\]\n +got +\[\S+\]", message)


def test_what_takes_other_rows_is_shown_with_them():
    assert re.search("36 rows of [12],", message_of(check_vjp, mutants.MUTANTS["first row's mean"]))


def test_an_exception_is_a_failed_check_with_its_traceback():
    message = message_of(check_vjp, raises)
    assert message.splitlines()[0] == (
        "raises: shape and dtype fails: plain; 12 rows of 1, float32: "
        "it raises RuntimeError: no kernel for it"
    )
    assert "in raises" in message
    assert "verdicts.py" not in message


@pytest.mark.parametrize(
    ("what", "fn"),
    [
        ("vjp", mutants.MUTANTS["no mean"]),
        ("vjp", mutants.MUTANTS["first row's mean"]),
        ("jvp", mutants.MUTANTS["times 1.01"]),
        ("vjp", writes_to_dy),
        ("vjp", SLIPS["float64 out"]),
        ("vjp", no_nan),
        ("vjp", as_it_lies),
        ("forward", mutants.rounded_once(mutants.SOFTMAXES["no maximum"].formula)),
        ("double-backward", mutants.rounded_once(mutants.DOUBLE_BACKWARDS["zeros"].formula)),
    ],
)
def test_three_lines_of_code_reproduce_it(what, fn, capsys):
    # those made of a formula take an axis
    axis = 0 if fn.__name__ == "function" and what != "double-backward" else None
    found = [f for f in run(what, fn, max_n=33, axis=axis) if not f.passed]
    assert found
    for finding in found:
        assert len(finding.reproduce.splitlines()) == 3
        with np.errstate(all="ignore"):
            exec(finding.reproduce, {fn.__name__: fn, "fn": fn})
        assert "Verdict(passed=False" in capsys.readouterr().out


# --- run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, (-1, 0, 2)])
@pytest.mark.parametrize("level", ["sound", "tight"])
@pytest.mark.parametrize("what", ["vjp", "jvp", "forward", "double-backward"])
def test_what_is_planned_is_found(what, level, axis):
    fn, reported = load("softgrad", what=what), []
    found = run(what, fn, level=level, axis=axis, max_n=5, dtypes=["float32"], report=reported.append)
    assert found == reported
    due = planned(what, level=level, axis=axis, dtypes=["float32"])
    assert [(f.check, f.dtype) for f in found] == due
    assert len({f.check for f in found}) == len(found)
    assert all(isinstance(f, Finding) and f.passed and f.why for f in found)
    assert all(f.case == f.reproduce == f.hint == "" for f in found)


def test_max_n_is_the_longest_row():
    longest = []

    def function(y, dy):
        longest.append(y.shape[-1])
        return closed_form(y, dy)

    for n in (2, 7, 100):
        longest.clear()
        assert all(f.passed for f in run("vjp", function, max_n=n))
        assert max(longest) == n


def test_without_max_n_there_are_rows_of_100000_and_of_all_remainders():
    seen = set()

    def function(y, dy):
        seen.add(y.shape[-1])
        return closed_form(y, dy)

    run("vjp", function, dtypes=["float32"])
    assert max(seen) >= 100_000
    assert {n % 16 for n in seen if n > 16} == set(range(16))


def test_a_seed_makes_other_cases():
    one, same, other = (again("vjp", "contract", n=5, seed=s).arguments[1] for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    check_vjp(plain, seed=3, max_n=100)


def test_axes_are_tested_where_they_are_given():
    def ignores_it(y, dy, axis=-1):
        return closed_form(y, dy)

    check_vjp(ignores_it)
    assert "axis 0" in message_of(check_vjp, ignores_it, axis=(-1, 0))
    check_vjp(closed_form, axis=(-1, 0, 1, 2, -3))


def test_nothing_is_warned_of(recwarn):
    run("forward", mutants.rounded_once(mutants.SOFTMAXES["no maximum"].formula), max_n=17)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "exact"}, "'sound' or 'tight'"),
        ({"map": "hardmax"}, "'hardmax'"),
        ({"dtypes": ["int8"]}, "float16, bfloat16"),
        ({"dtypes": ["no such"]}, "float16, bfloat16"),
        ({"max_n": 0}, "max_n is 0"),
    ],
)
def test_options_that_are_none(options, words):
    with pytest.raises(ValueError, match=words):
        check_vjp(plain, **options)


@pytest.mark.parametrize("call", [check_vjp, check_forward, check_jvp, check_double_backward])
def test_an_option_of_a_name_that_is_none(call):
    with pytest.raises(TypeError, match="'levels': check_vjp's are map, level, dtypes, max_n, axis, seed"):
        call(plain, levels="tight")
    with pytest.raises(TypeError, match="'levels'"):
        run("vjp", plain, levels="tight")
    with pytest.raises(TypeError, match="'levels'"):
        planned("vjp", levels="tight")


def test_a_check_that_is_none():
    with pytest.raises(ValueError, match="shape and dtype, contract"):
        again("vjp", "no such", n=3)


@each_dtype
@pytest.mark.parametrize("name", ["narrow", "mean in one part"])
def test_a_mean_that_is_rounded_is_not_tight(name, dtype):
    """The formula is right, and each element is looked at by itself."""
    assert "check: contract" in message_of(
        check_vjp, mutants.MUTANTS[name], level="tight", dtypes=[dtype], max_n=300
    )


@pytest.mark.parametrize("what", ["vjp", "jvp", "double-backward", "forward"])
def test_what_is_tight_is_sound(what):
    for dtype in cases.DTYPES:
        for n in (1, 2, 17, 257):
            tight, sound = (again(what, "contract", level=at, dtype=dtype, n=n) for at in ("tight", "sound"))
            for one, other in zip(tight.allowed, sound.allowed, strict=True):
                size = one if one.ndim == other.ndim else errors.norm(one)
                assert (size <= other * (1 + 1e-15)).all()


def test_importing_softgrad_does_not_import_it():
    """Nor does importing it import much."""
    for code in (
        "import sys, softgrad; assert 'softgrad.testing' not in sys.modules",
        "import sys, softgrad.testing; assert not {'pytest', 'numba', 'mpmath', 'scipy'} & set(sys.modules)",
    ):
        subprocess.run([sys.executable, "-c", code], check=True)


def test_between_two_findings_numpy_is_as_it_was():
    from softgrad.testing.options import parse
    from softgrad.testing.run import findings

    some = findings("vjp", softmax_vjp, parse({"dtypes": ["float32"], "max_n": 5}))
    with np.errstate(divide="raise"):
        next(some)
        assert np.geterr()["divide"] == "raise"
    some.close()
