"""What test_gpu.py runs in a process of its own: python gpu_cases.py (cpu | cuda) DTYPE."""

import contextlib
import functools
import itertools
import sys
import warnings

import entmax_oracle
import ml_dtypes
import numpy as np
import torch
import triton
import triton.language as tl
from contract import off_by
from test_entmax import ROWS, assert_solved, hard
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

import softgrad
from softgrad import formulas, gpu
from softgrad.gpu import functions as kernels
from softgrad.gpu import launch
from softgrad.gpu.exp import rough_power
from softgrad.specs import MAPS as FAMILY
from softgrad.testing import again, cases, errors, operations, oracle
from softgrad.torch import backend, composites

MAPS = ("softmax", "log_softmax", "sparsemax", "entmax")
WHATS = {"forward": "", "vjp": "_vjp", "jvp": "_jvp", "double-backward": "_double_backward"}

# check: lengths.  The longer ones, and those in parts, are for softmax and the product of log_softmax alone.
CHECKS = {
    "contract": (1, 17),
    "saturated rows": (3, 100),
    "masked entries": (17,),
    "huge logits": (3,),
    "empty rows": (17,),
    "constant gradient": (3,),
    "flat rows": (16,),
    "any size": (2, 17),
    "broadcast gradient": (5,),
    "NaN kept": (5,),
    "inputs unchanged": (5,),
    "no aliasing": (5,),
    "same twice": (33,),
    "memory layouts": (5,),
    "three dimensions": (5,),
}
LONGER = 257
# longer than what is held, by size of an element; and of a double backward, and of entmax
IN_PARTS = {2: 20000, 4: 20000, 8: 5000}
DOUBLE_IN_PARTS = {np.dtype(np.float32): 8200, np.dtype(np.float64): 2100}
LOOPED = {np.dtype(np.float32): 4200, np.dtype(np.float64): 2100}
STEEP = 3.0


def tensor(array, device):
    array = np.array(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)


def array(tensor):
    tensor = tensor.cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def on_arrays(function, device):
    """A function of tensors as one of arrays."""

    def call(*arrays, **options):
        found = function(*(tensor(a, device) for a in arrays), **options)
        return tuple(map(array, found)) if isinstance(found, tuple) else array(found)

    return call


def as_inexact_as_a_gpu():
    """The interpreter rounds to nearest what a GPU does not: quotients of float32 are off by 2 ulp there,
    logarithms of float64 by 1, and powers of 2 by 2⁻²², which are 0 instead of subnormal besides."""

    def nudged(a):
        """Off by 2⁻²² of it, up or down as its bits will have it."""
        up = (a.view(np.int32) * np.int32(-1640531527) < 0) * 2 - 1
        return (a * (1 + up * 2.0**-22)).astype(np.float32)

    def quotient(self, a, b):
        exact = self.binary_op(a, b, np.divide)
        return TensorHandle(nudged(exact.data), exact.dtype) if exact.data.dtype == np.float32 else exact

    def power_of_2(self, a):
        assert a.data.dtype == np.float32
        found = np.exp2(a.data)
        found = np.where(a.data == 0, found, nudged(found))  # of which 1 is promised
        return TensorHandle(np.where(found < 2.0**-126, np.float32(0), found), a.dtype.scalar)

    def logarithm(self, a):
        assert a.data.dtype == np.float64
        up = np.where(a.data.view(np.int64) % 3 == 0, np.inf, -np.inf)
        found = np.log(a.data)
        return TensorHandle(np.where(found == 0, found, np.nextafter(found, up)), a.dtype.scalar)

    cast = InterpreterBuilder.cast_impl

    def convert(self, value, dtype):
        """bfloat16, where the interpreter cuts bits off and takes subnormal numbers for others."""
        kinds = value.dtype.scalar, dtype.scalar
        if kinds == (tl.float32, tl.bfloat16):
            return TensorHandle(value.data.astype(ml_dtypes.bfloat16).view(np.uint16), tl.bfloat16)
        if kinds == (tl.bfloat16, tl.float32):
            wide = value.data.view(np.uint16).astype(np.uint32) << 16
            return TensorHandle(wide.view(np.float32), tl.float32)
        return cast(self, value, dtype)

    InterpreterBuilder.cast_impl = convert
    InterpreterBuilder.create_fdiv, InterpreterBuilder.create_exp2 = quotient, power_of_2
    InterpreterBuilder.create_log = logarithm


def patched_once():
    """The interpreter patches what a function sees of Triton's language at each call in a launch, which takes
    half of its time: here once for each module."""
    patch, patched = interpreter._patch_lang, set()

    def patch_module(function):
        if function.__module__ in patched:
            return None
        outermost = not patched
        scope = patch(function)
        if hasattr(scope, "restore"):
            patched.add(function.__module__)
            if outermost:
                restore = scope.restore
                scope.restore = lambda: (patched.clear(), restore())
        return scope

    interpreter._patch_lang = patch_module


def functions(device):
    for name in MAPS:
        for what, ending in WHATS.items():
            yield name, what, on_arrays(getattr(gpu, name + ending), device)


def assert_holds(name, what, check, dtype, n, axis, function):
    case = again(what, check, map=name, level="tight", dtype=dtype, n=n, axis=axis)
    verdict = case.verdict(function)
    assert verdict.passed, (name, what, check, n, axis, verdict)


def check_contract(dtype, device):
    for name, what, function in functions(device):
        if what == "jvp" and name != "log_softmax":  # the vjp, by another name
            continue
        for check, lengths in CHECKS.items():
            try:
                again(what, check, map=name, level="tight", dtype=dtype, n=lengths[0])
            except ValueError:  # not one of this function's
                continue
            for n in lengths:
                assert_holds(name, what, check, dtype, n, -1, function)
        assert_holds(name, what, "contract", dtype, 17, 0, function)
        if what in ("forward", "vjp") and name in ("softmax", "log_softmax"):
            long = IN_PARTS[dtype.itemsize]
            for n, axis, few in ((LONGER, -1, False), (long, -1, False), (long, -1, True), (long, 0, False)):
                with as_few_lines(few):
                    assert_holds(name, what, "contract", dtype, n, axis, function)
        if what == "double-backward" and dtype in DOUBLE_IN_PARTS:
            with as_few_lines(dtype == np.float32):
                assert_holds(name, what, "contract", dtype, DOUBLE_IN_PARTS[dtype], -1, function)


@contextlib.contextmanager
def as_few_lines(few):
    """The lines of a case as too few to fill the chip, or as enough of them."""
    real = launch.processors
    launch.processors = lambda device: 16 if few else 0
    launch.plan.cache_clear()
    yield
    launch.processors = real
    launch.plan.cache_clear()


@contextlib.contextmanager
def in_blocks(few):
    """No line of more than 8 elements is held; the lines of a case are enough, or too few to fill the
    chip."""
    names = {"HELD": dict.fromkeys((2, 4, 8), 8), "BLOCK": dict.fromkeys((2, 4, 8), 8), "LONG": 0}
    real = {name: getattr(launch, name) for name in names}
    for name, value in names.items():
        setattr(launch, name, value)
    with as_few_lines(few):
        yield
    for name, value in real.items():
        setattr(launch, name, value)


IN_BLOCKS = ("contract", "saturated rows", "masked entries", "huge logits", "empty rows", "any size")


def check_blocks(dtype, device):
    """The checks on lines in blocks, and in parts."""
    for name, what, function in functions(device):
        if what == "double-backward" or (name in ("sparsemax", "entmax") and what != "vjp"):
            continue
        n = 17 if name == "softmax" else 13  # of all pairs of logits and gradients, or of three
        for check in IN_BLOCKS:
            try:
                again(what, check, map=name, level="tight", dtype=dtype, n=n)
            except ValueError:
                continue
            with in_blocks(few=check == "saturated rows"):
                assert_holds(name, what, check, dtype, n, -1, function)


def check_bad_numbers(dtype, device):
    """A NaN or inf in dy makes its row NaN, also where y is 0, unless it is masked, or all y are 0."""
    x = np.tile(cases.numbers(30, "x"), (6, 1)).astype(dtype)
    x[:, 3] = -200
    dy = np.tile(cases.numbers(30, "dy"), (6, 1)).astype(dtype)
    dy[0, 3], dy[1, 20], dy[2, 29], dy[3, 7], dy[4, 5] = np.nan, np.inf, -np.inf, np.nan, np.nan
    some = np.ones(x.shape, bool)
    some[3, 7] = False
    for name in MAPS:
        y = np.array(on_arrays(getattr(gpu, name), device)(x))
        y[4] = -np.inf if name == "log_softmax" else 0
        for few in (None, False, True):
            with in_blocks(few) if few is not None else contextlib.nullcontext():
                for ending in ("_vjp", "_jvp"):
                    found = on_arrays(getattr(gpu, name + ending), device)(y, dy, where=tensor(some, device))
                    bad = np.isnan(found)
                    rows = [0, 1, 2, 4] if name == "log_softmax" and ending == "_vjp" else [0, 1, 2]
                    expected = np.isin(np.arange(6), rows)[:, None] | np.zeros_like(bad)
                    np.testing.assert_array_equal(bad, expected, (name, ending, few))


def check_winners(dtype, device):
    """Rows whose heaviest elements have a dy that is far from the mean, ties among them, and with offsets."""
    n, x = 64, np.zeros((6, 64))
    x[1:3, 1::2], x[3, 1:], x[4:] = -60, -1e-3, -30
    x[4:, [5, 9]] = 0
    dy = np.tile(cases.numbers(n, "dy"), (6, 1))
    far = 1e4 if dtype == np.float16 else 1e6
    dy[[0, 1, 3, 5], 0], dy[2:4, 5:9], dy[4, 5] = far, -far / 10, far
    for offset in (0, 1e4) if dtype == np.float16 else (0, 1e4, 1e10):
        y, g = oracle.softmax(x).astype(dtype), (dy + offset).astype(dtype)
        dx = on_arrays(gpu.softmax_vjp, device)(y, g)
        assert errors.product_miss(dx, y, oracle.vjp(y, g)).max() <= 1, offset
    largest = float(ml_dtypes.finfo(dtype).max)
    y, g = (
        np.array([[0.75, 0.25]], dtype),
        np.array([[-largest, largest]], dtype),
    )  # whose distance is no number
    dx = on_arrays(gpu.softmax_vjp, device)(y, g)
    assert errors.product_miss(dx, y, oracle.vjp(y, g)).max() <= 1


def check_sizes(dtype, device):
    """dy near the largest and the smallest normal number, of which Σdy is none."""
    most = ml_dtypes.finfo(dtype).maxexp
    x = np.array([[0, 0, 0, 0], [0, -1, -40, 2]]).astype(dtype)
    for name in MAPS:
        y = on_arrays(getattr(gpu, name), device)(x)
        for power in (most - 3, 12 - most):
            dy = np.array([[3, 3, 2, 1], [3, 2, 3, 3]]).astype(dtype) * dtype.type(2.0**power)
            found = on_arrays(getattr(gpu, name + "_vjp"), device)(y, dy)
            (exact,) = operations.operation(name, "vjp").exact(y, dy)
            assert off_by(found, exact) <= 4, (name, power)
    n, small = IN_PARTS[dtype.itemsize], -(3 * most) // 4
    edge = 900 if most > 128 else 100  # where the factor changes; float16 has no such numbers
    for name in (
        ("softmax", "log_softmax") if most > 16 else ()
    ):  # the factors of parts of a line, which differ
        x, dy = (cases.numbers(n, name, key)[None] for key in ("x", "dy"))
        x[0, -1] = 20  # a winner
        for sizes in ((edge + 3, edge - 6), (small, 0), (small, small + 4)):
            g = (dy * np.where(np.arange(n) < n // 2, *(2.0**p for p in sizes))).astype(dtype)
            y = on_arrays(getattr(gpu, name), device)(x.astype(dtype))
            found = on_arrays(getattr(gpu, name + "_vjp"), device)(y, g)
            (exact,) = operations.operation(name, "vjp").exact(y, g)
            assert off_by(found, exact) <= 4, (name, sizes)


def check_scale(dtype, device):
    """To the last bits, where x − max and its product with the scale are rounded."""
    x = (cases.numbers(100, "x") * 20).reshape(4, 25).astype(dtype)
    x[:, 0] = 800  # the others are e⁻³⁵ of it
    for scale in (0.0437, 1.7):
        found = on_arrays(gpu.softmax, device)(x, scale=scale)
        exact = formulas.softmax(x.astype(oracle.WIDE) * oracle.WIDE(scale), np)
        counted = exact >= ml_dtypes.finfo(dtype).smallest_normal
        assert (np.abs(found - exact)[counted] <= 2 * errors.eps(dtype) * exact[counted]).all()


@triton.jit
def powers_of(x, out):
    i = tl.arange(0, 128)
    tl.store(out + i, rough_power(tl.load(x + i)))


def check_faint_powers(device):
    """What is subnormal in bfloat16 has a power.  (The interpreter can't round to a subnormal bfloat16.)"""
    x = torch.linspace(-92, -86, 128, device=device)
    found = torch.empty_like(x)
    powers_of[(1,)](x, found)
    exact = np.exp(array(x).astype(oracle.WIDE)) * oracle.WIDE(2) ** 64
    assert (np.abs(array(found) - exact) <= 2.0**-16 * exact).all()


def check_entmax(dtype, device):
    """Long rows, and α beyond 2: as the CPU's (test_entmax.py)."""
    forward, vjp = on_arrays(gpu.entmax, device), on_arrays(gpu.entmax_vjp, device)
    for alpha in (1.5, STEEP) if dtype in LOOPED else ():
        x = np.stack([ROWS[name](LOOPED[dtype]) for name in ("plain", "ties")]).astype(dtype)
        assert_solved(forward(x, alpha), entmax_oracle.entmax(x, alpha))
    for alpha, axis in ((STEEP, -1), (40.0, 0)) if dtype in LOOPED else ((STEEP, -1),):
        x, exact = hard(20, alpha, dtype)
        assert_solved(cases.along(lambda x, axis, a=alpha: forward(x, a, axis=axis), axis, x), exact)

    x, dy = cases.logits(17, dtype)[::3], cases.gradients(17, dtype)[::3]
    y = forward(x / dtype.type(4), STEEP)
    dx, exact = vjp(y, dy, STEEP), entmax_oracle.vjp(y, dy, STEEP)
    # J 1 = 0: nothing is promised relative to 0 in float64
    counted = (np.abs(exact) > 2.0**-40 * np.abs(dy.astype(oracle.WIDE))).any(axis=1) | (dtype.itemsize < 8)
    assert (np.where(counted, errors.row_error(dx, exact), 0) <= errors.bound(dtype)).all()
    for alpha in (1.5, STEEP) if dtype in LOOPED else ():
        check_options_of_entmax(dtype, device, functools.partial(forward, alpha=alpha), alpha)


def check_options_of_entmax(dtype, device, forward, alpha):
    x = np.stack([ROWS[name](19) for name in ("plain", "ties", "spread 1e-8")]).astype(dtype)
    some = cases.numbers(x.size, "where").reshape(x.shape) > -0.5
    for scale in (-0.7, 0.0, 1e30):
        found = forward(np.where(some, x, dtype.type(np.nan)), scale=scale, where=tensor(some, device))
        assert_solved(found, entmax_oracle.entmax(x, alpha, scale=scale, where=some))
    x[0], x[1, 5] = -np.inf, np.nan
    assert (forward(x)[0] == 0).all()
    y = forward(x, empty="nan")
    assert np.isnan(y[:2]).all()
    assert np.isfinite(y[2]).all()


# --- options -------------------------------------------------------------------------------------------


FORWARD = {
    "softmax": formulas.softmax,
    "log_softmax": formulas.log_softmax,
    "sparsemax": formulas.sparsemax,
    "entmax": lambda x, xp: formulas.entmax(x, 1.5, xp),
}
VJP = {
    "softmax": formulas.softmax_vjp,
    "log_softmax": formulas.log_softmax_vjp,
    "sparsemax": formulas.sparsemax_vjp,
    "entmax": lambda y, dy, xp: formulas.entmax_vjp(y, dy, 1.5, xp),
}


def by_formula(name, x, axis, mask, scale, nothing):
    """The map in longdouble along any axes."""
    z, there = (
        rows_of(a, axis) for a in (x.astype(oracle.WIDE), mask & (x * np.sign(scale + 0.5) != -np.inf))
    )
    empty = ~there.any(axis=-1, keepdims=True)
    z = np.where(empty, 0, np.where(there, z * scale if scale else z * 0, -np.inf))
    absent = -np.inf if name == "log_softmax" else 0
    y = np.where(empty, nothing if np.isnan(nothing) else absent, FORWARD[name](z, np))
    return back(np.where(there | empty, y, absent), x.shape, axis)


def vjp_by_formula(name, y, dy, axis, mask, scale):
    y, d, there = (rows_of(a, axis) for a in (y.astype(oracle.WIDE), dy.astype(oracle.WIDE), mask))
    absent = -np.inf if name == "log_softmax" else 0
    y = np.where(there, y, absent)
    if name == "log_softmax":
        there = there & (y != absent)
    d = np.where(there, d, 0)
    empty = (y == absent).all(axis=-1, keepdims=True)
    dx = VJP[name](np.where(empty, 1, y), d, np) * scale
    return back(np.where(empty | ~there, 0, dx), dy.shape, axis)


def rows_of(a, axis):
    axes = tuple(range(a.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    moved = np.moveaxis(a, axes, range(-len(axes), 0))
    return moved.reshape(*moved.shape[: a.ndim - len(axes)], -1)


def back(rows, shape, axis):
    axes = tuple(range(len(shape))) if axis is None else (axis,) if isinstance(axis, int) else axis
    others = [n for i, n in enumerate(shape) if i not in {a % len(shape) for a in axes}]
    full = rows.reshape(*others, *(shape[a] for a in axes))
    return np.moveaxis(full, range(-len(axes), 0), axes)


def assert_near(found, exact):
    """Beside the largest of the array: whether the option is understood, the contract sees to the rest."""
    there = np.isfinite(exact)
    found = found.astype(oracle.WIDE)
    np.testing.assert_array_equal(found[~there], exact[~there])
    assert np.isfinite(found[there]).all()
    gap = np.abs(found[there] - exact[there])
    assert (gap <= 16 * EPS * np.abs(exact[there]).max(initial=0)).all()


def check_options(dtype, device):
    """`where`, `scale`, `empty` and `out`, for any axes."""
    global EPS
    EPS = errors.eps(dtype)
    x, dy = (cases.numbers(6 * 5 * 9, key).reshape(6, 5, 9).astype(dtype) for key in ("x", "dy"))
    x[2, 3] = -np.inf
    some = cases.numbers(x.size, "where").reshape(x.shape) > -0.5
    some[4, 2] = False
    for name in MAPS if dtype == np.float32 else MAPS[:1]:
        forward, vjp = (on_arrays(getattr(gpu, name + e), device) for e in ("", "_vjp"))
        for axis in (-1, 0, 1, (0, 2), None) if (name, dtype) == ("softmax", np.float32) else (0,):
            for scale, where, empty in (
                (1.0, some, "zero"),
                (0.7, some[:, :1], "nan"),
                (-0.7, None, "zero"),
                (0.0, some, "zero"),
            ):
                given = np.where(np.isinf(x), dtype.type(-5), x) if scale < 0 else x
                mask = np.ones_like(some) if where is None else np.broadcast_to(where, x.shape)
                hidden = np.where(mask, given, dtype.type(np.nan))
                options = {"axis": axis, "scale": scale}
                options |= {} if where is None else {"where": tensor(where, device)}
                y = forward(hidden, **options, empty=empty)
                nothing = np.nan if empty == "nan" else 0.0
                assert_near(y, by_formula(name, given, axis, mask, scale, nothing))
                hidden = np.where(mask, dy, dtype.type(np.inf))
                if empty == "zero":
                    found = vjp(y, hidden, **options)
                    assert_near(found, vjp_by_formula(name, y, dy, axis, mask, scale))
                    assert (found[~mask] == 0).all()
        t, u = tensor(x, device), tensor(dy, device)
        expected = getattr(gpu, name)(t)
        over = t.clone()
        assert getattr(gpu, name)(over, out=over) is over
        assert torch.equal(over, expected)
        dx = getattr(gpu, name + "_vjp")(expected, u)
        for i in range(2):
            given = [expected.clone(), u.clone()]
            getattr(gpu, name + "_vjp")(*given, out=given[i])
            assert torch.equal(given[i], dx)
        wide = torch.full((6, 5, 18), 7.0, dtype=t.dtype, device=device)
        getattr(gpu, name)(t, out=wide[..., ::2])
        assert torch.equal(wide[..., ::2], expected)
        assert (wide[..., 1::2] == 7).all()
        try:
            getattr(gpu, name)(t, empty="raise", out=over)
            raise SystemExit("an empty row was not seen")
        except ValueError:
            assert torch.equal(over, expected)


def check_large(device):
    """The offsets of rows, and of elements, go beyond 2³¹, of which no single step does."""
    room = torch.empty(2**31 + 200, dtype=torch.bfloat16, device=device)
    x = room.as_strided((3, 100), (2**30 + 8, 1))
    for axis in (-1, 0):
        x.copy_(tensor(cases.numbers(300, "x").reshape(3, 100).astype(ml_dtypes.bfloat16), device))
        expected = gpu.softmax(x.contiguous(), axis=axis)
        assert torch.equal(gpu.softmax(x, axis=axis, out=x), expected)


# --- as softgrad.torch calls them ----------------------------------------------------------------------


def check_calls(device):
    """The kernels in float32 beside the formulas in float64, which are tested on tensors of the CPU."""
    x, dy, u = (tensor(cases.numbers(60, key).reshape(4, 3, 5).astype(np.float32), device) for key in "abc")
    some = x > -1
    some[:, 0] = False
    for row, dims in itertools.product(FAMILY.values(), ((-1,), (-3, -1))):
        alpha = {"alpha": row.alpha}
        for mask, empty in ((None, "zero"), (some & (x < 1), "nan"), (some & (dy > 0), "zero")):
            y = kernels.forward(row.name, x, axis=dims, where=mask, scale=0.7, empty=empty, **alpha)
            exact = backend.forward_by_formulas(row, x.double(), dims, mask, 0.7, empty)
            assert_close(y, exact, dims, (row, "forward"))
            for kind in ("vjp", "jvp") if empty == "zero" else ():
                hidden = dy if mask is None else torch.where(mask, dy, torch.nan)
                given = row.name, kind, y, hidden
                found = kernels.product(*given, axis=dims, where=mask, scale=0.7, **alpha)
                given = y.double(), hidden.double(), dims, mask, 0.7, row.alpha
                assert_close(found, composites.product(row, kind, *given), dims, (row, kind))
        y = kernels.forward(row.name, x, axis=dims, scale=0.7, **alpha)
        found = kernels.double_backward(row.name, y, dy, u, axis=dims, scale=0.7, **alpha)
        exact = composites.double_backward(row, *(t.double() for t in (y, dy, u)), dims, 0.7, row.alpha)
        assert_within(row.name, found, exact, dims, 0.7, y, dy, u)


def rows_of_tensor(tensor, dims):
    tensor = tensor.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
    return array(tensor).reshape(-1, tensor.shape[-1])


def assert_close(found, exact, dims, what):
    assert off_by(rows_of_tensor(found, dims), rows_of_tensor(exact, dims).astype(oracle.WIDE)) <= 2, what


def assert_within(name, found, expected, dims, scale, *given):
    """A double backward, by the contract."""
    powers = np.array([scale**2, scale])  # of the scale, in grad_x and grad_dy
    pairs = zip(expected, powers, strict=True)
    exact = tuple(rows_of_tensor(t, dims).astype(oracle.WIDE) / power for t, power in pairs)
    operation = operations.operation(name, "double-backward")
    allowed = operation.allowed("tight", tuple(rows_of_tensor(t, dims) for t in given), exact)
    for one, true, bound, power in zip(found, exact, allowed, powers, strict=True):
        assert (np.abs(rows_of_tensor(one, dims) - true * power) <= bound * power).all(), name


def check_results_over_operands(device):
    """`out` may be an operand, other memory, or memory that overlaps an operand or itself."""
    room = tensor(cases.numbers(6006, "room").reshape(1001, 6), device)
    y, dy = kernels.forward("softmax", room[1:]), torch.roll(room[1:], 1, -1)
    expected = kernels.product("softmax", "vjp", y, dy)
    for place in ("dy", "apart", "a row further", "by DLPack", "turned"):
        room[:1000] = dy
        out = {
            "dy": room[:1000],
            "apart": torch.empty_like(dy),
            "a row further": room[1:],
            "by DLPack": torch.from_dlpack(room[1:]),  # a storage of its own, of the same memory
            "turned": room.flatten()[:6000].view(6, 1000).T,
        }[place]
        written = out._version
        assert backend.product_on_gpu(kernels, out, "softmax", "vjp", y, room[:1000]) is out, place
        assert torch.equal(out, expected), place
        assert out._version > written
    assert backend.safe_to_write(dy, y, dy)
    assert not backend.safe_to_write(torch.empty(6, device=device).expand(1000, 6), y)


def check_which_room(device):
    """The kernels are taken where they run, and `explain` says so."""
    here, x = backend.triton_runs_on, torch.ones(2, 3, device=device)
    backend.triton_runs_on = lambda device: True
    try:
        ran = softgrad.explain(backend.triton, x.device, FAMILY["entmax"], "entmax_vjp")
        assert backend.triton(x.device, FAMILY["softmax"], "softmax") is kernels
    finally:
        backend.triton_runs_on = here
    assert [(step.by, step.kernel) for step in ran] == [("triton", "entmax_vjp")], ran


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # of NaN in the oracle
    device, dtype = sys.argv[1], np.dtype(sys.argv[2])
    if device == "cpu":
        as_inexact_as_a_gpu()
        patched_once()
    check_contract(dtype, device)
    check_options(dtype, device)
    check_entmax(dtype, device)
    check_bad_numbers(dtype, device)
    check_winners(dtype, device)
    check_sizes(dtype, device)
    check_scale(dtype, device)
    if dtype == ml_dtypes.bfloat16:
        check_faint_powers(device)
        check_large(device)
    if dtype == np.float32:
        check_blocks(dtype, device)
    if dtype == np.float64:
        check_calls(device)
        check_results_over_operands(device)
        check_which_room(device)
    print("all checks hold")
