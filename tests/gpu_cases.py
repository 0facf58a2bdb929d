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
from softgrad import gpu
from softgrad.formulas import entmax, log_softmax, softmax, sparsemax
from softgrad.gpu import launch
from softgrad.gpu.exp import rough_power
from softgrad.specs import MAPS as FAMILY
from softgrad.testing import again, cases, maps, measures, oracle
from softgrad.torch import by_formulas, by_triton, compute
from softgrad.torch.options import Call

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
        assert measures.product_miss(dx, y, oracle.vjp(y, g)).max() <= 1, offset
    largest = float(ml_dtypes.finfo(dtype).max)
    y, g = (
        np.array([[0.75, 0.25]], dtype),
        np.array([[-largest, largest]], dtype),
    )  # whose distance is no number
    dx = on_arrays(gpu.softmax_vjp, device)(y, g)
    assert measures.product_miss(dx, y, oracle.vjp(y, g)).max() <= 1


def check_sizes(dtype, device):
    """dy near the largest and the smallest normal number, of which Σdy is none."""
    most = ml_dtypes.finfo(dtype).maxexp
    x = np.array([[0, 0, 0, 0], [0, -1, -40, 2]]).astype(dtype)
    for name in MAPS:
        y = on_arrays(getattr(gpu, name), device)(x)
        for power in (most - 3, 12 - most):
            dy = np.array([[3, 3, 2, 1], [3, 2, 3, 3]]).astype(dtype) * dtype.type(2.0**power)
            found = on_arrays(getattr(gpu, name + "_vjp"), device)(y, dy)
            (exact,) = maps.operation(name, "vjp").exact(y, dy)
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
            (exact,) = maps.operation(name, "vjp").exact(y, g)
            assert off_by(found, exact) <= 4, (name, sizes)


def check_scale(dtype, device):
    """To the last bits, where x − max and its product with the scale are rounded."""
    x = (cases.numbers(100, "x") * 20).reshape(4, 25).astype(dtype)
    x[:, 0] = 800  # the others are e⁻³⁵ of it
    for scale in (0.0437, 1.7):
        found = on_arrays(gpu.softmax, device)(x, scale=scale)
        exact = softmax.softmax(x.astype(oracle.WIDE) * oracle.WIDE(scale), np)
        counted = exact >= ml_dtypes.finfo(dtype).smallest_normal
        assert (np.abs(found - exact)[counted] <= 2 * measures.eps(dtype) * exact[counted]).all()


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
    assert (np.where(counted, measures.row_error(dx, exact), 0) <= measures.bound(dtype)).all()
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
    "softmax": softmax.softmax,
    "log_softmax": log_softmax.log_softmax,
    "sparsemax": sparsemax.sparsemax,
    "entmax": lambda x, xp: entmax.entmax(x, 1.5, xp),
}
VJP = {
    "softmax": softmax.vjp,
    "log_softmax": log_softmax.vjp,
    "sparsemax": sparsemax.vjp,
    "entmax": lambda y, dy, xp: entmax.vjp(y, dy, 1.5, xp),
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
    EPS = measures.eps(dtype)
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
    """by_triton.py in float32 beside by_formulas.py in float64, which is tested on tensors of the CPU."""
    x, dy, u = (tensor(cases.numbers(60, key).reshape(4, 3, 5).astype(np.float32), device) for key in "abc")
    some = x > -1
    some[:, 0] = False
    for map, dims in itertools.product(FAMILY.values(), ((-1,), (-3, -1))):
        for mask, empty in ((None, "zero"), (some & (x < 1), "nan"), (some & (dy > 0), "zero")):
            call = Call(map, dims, 0.7, empty)
            y = by_triton.forward(call, x, mask)
            assert_as_formulas(call, "forward", y, mask, x)
            for kind in ("vjp", "jvp") if empty == "zero" else ():
                hidden = dy if mask is None else torch.where(mask, dy, torch.nan)
                found = by_triton.product(call.product(kind), y, hidden, mask, None)
                assert_as_formulas(call.product(kind), "product", found, mask, y, hidden)
        y = by_triton.forward(call, x, None)
        assert_as_formulas(call, "double_backward", by_triton.double_backward(call, y, dy, u), None, y, dy, u)


def assert_as_formulas(call, what, found, mask, *given):
    arguments = [t.double() for t in given] + ([] if what == "double_backward" else [mask])
    expected = getattr(by_formulas, what)(call, *arguments)

    def rows(tensor):
        tensor = tensor.movedim(call.dims, tuple(range(-len(call.dims), 0))).flatten(-len(call.dims))
        return array(tensor).reshape(-1, tensor.shape[-1])

    if what != "double_backward":
        assert off_by(rows(found), rows(expected).astype(oracle.WIDE)) <= 2, (call, what)
        return
    powers = np.array([call.scale**2, call.scale])  # of the scale, in grad_x and grad_dy
    exact = [rows(t).astype(oracle.WIDE) / power for t, power in zip(expected, powers, strict=True)]
    operation = maps.operation(call.map.name, "double-backward")
    allowed = operation.allowed("tight", tuple(rows(t) for t in given), tuple(exact))
    for one, true, bound, power in zip(found, exact, allowed, powers, strict=True):
        assert (np.abs(rows(one) - true * power) <= bound * power).all(), (call, what)


def check_results_over_operands(device):
    """`out` may be an operand, other memory, or memory that overlaps an operand or itself."""
    call = Call(FAMILY["softmax"], (-1,)).product("vjp")
    room = tensor(cases.numbers(6006, "room").reshape(1001, 6), device)
    y, dy = by_triton.forward(call, room[1:], None), torch.roll(room[1:], 1, -1)
    expected = by_triton.product(call, y, dy, None, None)
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
        assert by_triton.product(call, y, room[:1000], None, out) is out, place
        assert torch.equal(out, expected), place
        assert out._version > written
    assert by_triton.apart(dy, y, dy)
    assert not by_triton.apart(torch.empty(6, device=device).expand(1000, 6), y)


def check_which_room(device):
    """The kernels are taken where they run, and `explain` says so."""
    here, x = by_triton.runs_on, torch.ones(2, 3, device=device)
    by_triton.runs_on = lambda device: True
    try:
        ran = softgrad.explain(compute.elsewhere, x, FAMILY["entmax"], "vjp")
        assert compute.elsewhere(x, FAMILY["softmax"], "forward") is by_triton
    finally:
        by_triton.runs_on = here
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
