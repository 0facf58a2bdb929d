"""The functions on tensors: what they give, on which path, what they save, and what they refuse."""

import importlib
import itertools
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from contract import as_array, off_by  # noqa: E402

import softgrad  # noqa: E402
import softgrad.torch as st  # noqa: E402
from softgrad import testing, threads  # noqa: E402
from softgrad.specs import MAPS  # noqa: E402
from softgrad.testing import errors, operations, oracle  # noqa: E402
from softgrad.testing.convert import by_torch  # noqa: E402
from softgrad.torch import backend, composites, losses, ops, segments, tensors  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

each_map = pytest.mark.parametrize("name", MAPS)
DTYPES = [torch.float32, torch.bfloat16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
NAN, INF = torch.nan, torch.inf


def numbers(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def of_numpy(function, arrays, **options):
    """What softgrad gives for the arrays of the same memory."""
    return function(*[tensors.array(t) for t in arrays], **options)


def same_bits(found, expected):
    assert tensors.array(found).tobytes() == np.ascontiguousarray(expected).tobytes()


# --- values ------------------------------------------------------------------------------------------


@each_map
@each_dtype
@pytest.mark.parametrize("dim", [-1, 0], ids=str)
def test_the_bits_are_those_of_the_arrays(name, dtype, dim):
    """Forward and backward, small and with a mask, along every dim."""
    x, dy = numbers(6, 5, 9, dtype=dtype).requires_grad_(), numbers(6, 5, 9, seed=1, dtype=dtype)
    where = numbers(5, 1, seed=2) > -1
    for options in ({}, {"where": where}) if dtype == torch.float32 else ({},):
        y = getattr(st, name)(x, dim=dim, scale=0.5, **options)
        (dx,) = torch.autograd.grad(y, x, dy)
        arrays = {"axis": dim, "scale": 0.5} | {k: v.numpy() for k, v in options.items()}
        same_bits(y, of_numpy(getattr(softgrad, name), [x], **arrays))
        expected = of_numpy(getattr(softgrad, f"{name}_vjp"), [y, dy], **arrays)
        if options:  # the mask is told from y, so that a kernel that sums in another order may run
            assert off_by(dx, expected, dim) <= 2
        else:
            same_bits(dx, expected)


@each_map
@pytest.mark.parametrize("what", ["forward", "vjp", "jvp", "double-backward"])
def test_every_check_of_softgrad_testing(name, what):
    """In float32, along two axes, at the bounds of the contract."""
    ending = {"forward": "", "vjp": "_vjp", "jvp": "_jvp", "double-backward": "_double_backward"}[what]
    function, (to, back) = getattr(st, name + ending), by_torch("cpu")

    def fn(*arrays, axis=-1):
        found = function(*map(to, arrays), dim=axis)
        return tuple(map(back, found)) if isinstance(found, tuple) else back(found)

    check = getattr(testing, f"check_{what.replace('-', '_')}")
    check(fn, map=name, level="tight", dtypes=["float32"], axis=(-1, 0), max_n=257)


def assert_tight(name, what, given, found, dim):
    """Within the contract of the map, for what the kernel was given; but for rounding to another dtype."""
    if found.numel() == 0:
        return
    *arguments, result = (np.moveaxis(np.atleast_1d(as_array(t)), dim, -1) for t in (*given, found))
    operation = operations.operation(name, what)
    exact = operation.exact(*arguments)
    (allowed,), (exact,) = operation.allowed("tight", arguments, exact), exact
    off = np.abs(result.astype(oracle.WIDE) - exact)
    if result.dtype != arguments[0].dtype:
        off = np.maximum(off - np.abs(exact) * errors.eps(result.dtype) / 2, 0)
    if allowed.ndim < off.ndim:
        off = errors.norm(off)
    assert (off <= allowed).all()


@each_dtype
def test_the_opinfo_samples_of_pytorch(dtype):
    from torch.testing._internal.common_methods_invocations import op_db

    seen = 0
    for info in op_db:
        if info.name not in ("softmax", "log_softmax") or dtype not in info.dtypes:
            continue
        ours = getattr(st, info.name)
        for sample in info.sample_inputs("cpu", dtype, requires_grad=True):
            x = sample.input
            found, expected = (
                ours(x, *sample.args, **sample.kwargs),
                info.op(x, *sample.args, **sample.kwargs),
            )
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            dy = torch.ones_like(found) + found.detach()
            (dx,) = torch.autograd.grad(found, x, dy)
            assert dx.dtype == x.dtype
            assert_tight(info.name, "forward", (x.to(found.dtype),), found, *sample.args)
            assert_tight(info.name, "vjp", (found, dy), dx, *sample.args)
            seen += 1
    assert seen > 20


@each_map
def test_large_tensors_by_as_many_threads_as_pytorch_may_use(name):
    """The bits are the same for any number, and how many are used can be asked."""
    x = numbers(1100, 1000)
    before, found = torch.get_num_threads(), {}
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found[number] = getattr(st, name)(x)
            (step,) = softgrad.explain(getattr(st, name), x)
            assert (step.by, step.threads) == ("numba", number)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[1], found[2])


def test_layouts():
    """Strides, steps, an expanded tensor, a transposed one; an expanded gradient, as `sum` makes."""
    base = numbers(8, 6, 10)
    for x in (base.mT, base[:, ::2, ::3], base[:, :1].expand(8, 4, 10), base[0, 0].expand(3, 10), base[:0]):
        leaf = x.detach().requires_grad_()
        for dim in (-1, 0):
            y = st.softmax(leaf, dim)
            assert off_by(y, torch.softmax(x, dim), dim) <= 3
            (dx,) = torch.autograd.grad(y.sum(), leaf)
            assert dx.shape == x.shape
            assert (dx == 0).all()
    conjugate = torch.view_as_complex(base.reshape(-1, 2)).conj().imag  # a view that says it is negated
    assert off_by(st.softmax(conjugate), torch.softmax(conjugate, -1)) <= 3
    assert st.softmax(torch.empty(3, 0)).shape == (3, 0)
    assert st.softmax(torch.tensor(2.0)).tolist() == 1.0


def test_dtypes():
    x = numbers(2, 3)
    assert st.softmax(x.half()).dtype == torch.float16
    assert st.softmax(x.double()).dtype == torch.float64
    assert st.softmax(x, -1, torch.float64).dtype == torch.float64
    assert st.softmax(x, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert st.softmax(torch.tensor([1, 2])).dtype == torch.float64
    assert st.softmax_vjp(st.softmax(x), x.double()).dtype == torch.float64
    for dtype in DTYPES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert st.softmax(x.to(dtype)).dtype == torch.softmax(x.to(dtype), -1).dtype
            given = x.to(dtype), torch.tensor([0, 2])
            assert st.cross_entropy(*given).dtype == torch.nn.functional.cross_entropy(*given).dtype


@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
@each_dtype
def test_reductions(name, dtype):
    x, where = numbers(6, 5, 9, dtype=dtype), numbers(6, 1, 9, seed=1) > -1
    for dim in (-1, (0, 1)):
        for keep in (False, True):
            found = getattr(st, name)(x, dim, keep, where=where, scale=1.5)
            arrays = {"axis": dim, "keepdims": keep, "where": where.numpy(), "scale": 1.5}
            same_bits(found, of_numpy(getattr(softgrad, name), [x], **arrays))
    leaf = x.detach().requires_grad_()
    (dx,) = torch.autograd.grad(getattr(st, name)(leaf).sum(), leaf)
    same_bits(dx, of_numpy(getattr(softgrad, f"{name}_vjp"), [x, torch.ones(6, 5, dtype=dtype)]))


def test_segments():
    x, offsets = numbers(7, 3).requires_grad_(), torch.tensor([0, 2, 2, 7])
    y, dy = st.segment_softmax(x, offsets, scale=0.5), numbers(7, 3, seed=1)
    same_bits(y, softgrad.segment_softmax(x.detach().numpy(), offsets.numpy(), scale=0.5))
    (dx,) = torch.autograd.grad(y, x, dy)
    of_arrays = softgrad.segment_softmax_vjp(y.detach().numpy(), dy.numpy(), offsets.numpy(), scale=0.5)
    same_bits(dx, of_arrays)
    batched = torch.func.vmap(lambda row: st.segment_softmax(row, offsets))(x.detach().T)
    assert torch.equal(batched.T, st.segment_softmax(x.detach(), offsets))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(30,), (30, 3)])
@pytest.mark.parametrize("scale", [1.0, -0.5, 0.0])
def test_the_formulas_of_segments(dtype, shape, scale):
    """What tensors on other devices get, here on the CPU: offsets, empty segments, −inf, NaN and all."""
    offsets, options = torch.tensor([0, 1, 12, 12, 20, 24, 30]), (-len(shape), scale)
    x, dy = numbers(*shape, dtype=dtype) * 3, numbers(*shape, dtype=dtype, seed=1) + 1e3
    x[3], x[20:24], dy[21] = -math.copysign(math.inf, scale), -math.copysign(math.inf, scale), math.nan
    y = segments.softmax_on_memory(x, offsets, *options)
    found = segments.softmax_by_scatter(x, offsets, *options)
    torch.testing.assert_close(found, y, rtol=8 * torch.finfo(dtype).eps, atol=0)
    dx = segments.vjp_on_memory(y, dy, offsets, *options)
    found = segments.vjp_by_scatter(y, dy, offsets, *options)
    assert (found[20:24] == 0).all()
    for start, stop in itertools.pairwise(offsets):
        assert off_by(found[start:stop], dx[start:stop], 0) <= (16 if dtype is torch.float64 else 8)
    x[25] = dy[5] = math.nan
    for by_scatter, on_memory, given in (
        (segments.softmax_by_scatter, segments.softmax_on_memory, (x,)),
        (segments.vjp_by_scatter, segments.vjp_on_memory, (y, dy)),
    ):
        one, other = by_scatter(*given, offsets, *options), on_memory(*given, offsets, *options)
        assert torch.equal(one.isnan(), other.isnan())
        assert one.isnan().sum() == math.prod(shape[1:]) * (6 if one.isnan()[25].any() else 11)


def test_offsets_for_another_device_are_checked():
    for offsets in ([0, 3], [0, 5, 2, 6], [1, 6]):
        with pytest.raises(ValueError, match="^offsets"):
            segments.on_device(torch.tensor(offsets), numbers(6, 2), -2)
    assert (
        segments.on_device(torch.tensor([0, 2, 6], dtype=torch.int32), numbers(6, 2), -2).dtype == torch.int64
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_beside_that_of_pytorch(reduction):
    x, target = numbers(6, 5).requires_grad_(), torch.tensor([0, 4, 2, -100, 1, 1])
    weights = torch.softmax(numbers(6, 5, seed=1), -1)
    for goal, options in (
        (target, {"ignore_index": -100}),
        (target, {"ignore_index": -100, "label_smoothing": 0.2}),
        (weights, {"label_smoothing": 0.1}),
    ):
        if reduction == "mean" and "label_smoothing" in options and goal is target:
            continue  # PyTorch's mean is of other weights then
        found = st.cross_entropy(x, goal, reduction=reduction, **options)
        expected = torch.nn.functional.cross_entropy(x, goal, reduction=reduction, **options)
        assert off_by(found, expected, ()) <= 2
        (dx,), (right,) = (torch.autograd.grad(r.sum(), x) for r in (found, expected))
        assert off_by(dx, right) <= 6
        with torch.no_grad():
            assert torch.equal(st.cross_entropy(x, goal, reduction=reduction, **options), found)


def test_the_formulas_of_cross_entropy():
    """On other devices, here on the CPU."""
    x, target = numbers(6, 5).double(), torch.tensor([0, 4, 2, -100, 1, 1])
    x[1, 2], x[3, 0] = -INF, NAN
    for goal, options in (
        (target, (0.2, -100)),
        (torch.softmax(numbers(6, 5, seed=1), -1).double(), (0.1, None)),
    ):
        found = losses.by_formulas(x, goal, -1, *options)
        for one, right in zip(found, losses.losses_and_gradient(x, goal, -1, *options), strict=True):
            assert off_by(one, right, -1 if one.ndim > 1 else ()) <= 4


# --- edges -------------------------------------------------------------------------------------------


@each_map
def test_masked_rows_do_not_poison_a_batch(name):
    """What is masked may be NaN, and what comes back to it as well; a NaN that is there stays."""
    x = torch.tensor([[1.0, NAN, 2.0], [NAN, NAN, NAN], [NAN, 1.0, 2.0]], requires_grad=True)
    where = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    y = getattr(st, name)(x, where=where)
    dy = torch.tensor([[1.0, NAN, 3.0], [INF, 1.0, NAN], [1.0, 1.0, 1.0]])
    (dx,) = torch.autograd.grad(y, x, dy)
    assert (y[:2][~where[:2]] == MAPS[name].absent).all()
    assert (dx[:2][~where[:2]] == 0).all()
    assert dx[0, [0, 2]].isfinite().all()
    assert y[2].isnan().all()
    assert dx[2].isnan().all()
    (nothing,) = torch.autograd.grad(getattr(st, name)(x, where=where)[1, 0], x)
    assert (nothing[:2] == 0).all()


def test_empty_rows():
    x = torch.full((1, 2), -INF)
    assert st.softmax(x).tolist() == [[0, 0]]
    assert st.log_softmax(x).tolist() == [[-INF, -INF]]
    assert st.softmax(x, empty="nan").isnan().all()
    with pytest.raises(ValueError, match="nothing in it"):
        st.softmax(x, empty="raise")
    assert st.softmax(numbers(2, 3), empty="raise").shape == (2, 3)
    assert st.logsumexp(x).tolist() == [-INF]


def test_tensors_without_memory():
    x = torch.randn(2, 3, device="meta", requires_grad=True)
    for function in (st.softmax, st.entmax, lambda x: st.log_softmax(x, scale=x[0, 0])):
        y = function(x)
        assert y.is_meta
        assert y.shape == (2, 3)
        assert torch.autograd.grad(y, x, y)[0].is_meta
    assert st.logsumexp(x).shape == st.entropy(x).shape == (2,)
    assert st.cross_entropy(x, torch.zeros(2, dtype=torch.int64, device="meta")).is_meta


def test_where_pytorch_loses_the_gradient():
    x = torch.tensor([20.0, 0.0, 0.0], requires_grad=True)
    for function, digits in ((st.softmax, True), (lambda x: torch.softmax(x, -1), False)):
        (dx,) = torch.autograd.grad(function(x), x, torch.tensor([1.0, 2.0, 3.0]))
        exact = oracle.vjp(as_array(function(x)), np.array([1, 2, 3], np.float32))
        assert (off_by(dx, exact) <= 2) == digits


def test_what_is_refused():
    x, s = numbers(2, 3), torch.ones((), requires_grad=True)
    cases = [
        (TypeError, "torch.bool.*where=", lambda: st.softmax(x > 0)),
        (TypeError, "complex64.*real", lambda: st.softmax(x + 0j)),
        (TypeError, "to_dense", lambda: st.softmax(x.to_sparse())),
        (TypeError, "where takes a tensor", lambda: st.softmax(x, where=[True])),
        (TypeError, "where != 0", lambda: st.softmax(x, where=x)),
        (ValueError, "does not broadcast", lambda: st.softmax(x, where=torch.ones(4) > 0)),
        (ValueError, "scale=inf", lambda: st.softmax(x, scale=INF)),
        (ValueError, "scale has shape", lambda: st.softmax(x, scale=torch.ones(4, 2, 3))),
        (ValueError, "scale has shape", lambda: st.softmax(x, scale=torch.ones(4))),
        (ValueError, "scale has shape", lambda: st.logsumexp(x, scale=torch.ones(4, 2, 3))),
        (TypeError, "give torch.as_tensor", lambda: st.softmax([1.0], dtype=torch.float32)),
        (ValueError, "empty='no'", lambda: st.softmax(x, empty="no")),
        (IndexError, "^dim 2 is out of bounds", lambda: st.softmax(x, 2)),
        (TypeError, "^dim=.*the classes lie along one dim", lambda: st.cross_entropy(x, x, (0, 1))),
        (ValueError, "twice", lambda: st.softmax(x, (0, 0))),
        (ValueError, "alpha=0.5", lambda: st.entmax(x, 0.5)),
        (ValueError, "alpha=0.5", lambda: st.entmax(x, torch.tensor(0.5))),
        (ValueError, "tensor of one float", lambda: st.entmax(x, torch.ones(2))),
        (ValueError, "must be the same", lambda: st.softmax_vjp(x, x[0])),
        (TypeError, "give torch.as_tensor", lambda: st.softmax_vjp(x, x.numpy())),
        (TypeError, "out has dtype", lambda: st.softmax(x, out=torch.empty(2, 3).double())),
        (ValueError, "out has shape", lambda: st.softmax_vjp(x, x, out=torch.empty(3))),
        (RuntimeError, "out=.*autograd", lambda: st.softmax(x.requires_grad_(), out=torch.empty(2, 3))),
        (RuntimeError, "out=.*autograd", lambda: st.softmax(x.detach(), scale=s, out=torch.empty(2, 3))),
        (RuntimeError, "out=.*autograd", lambda: st.entropy(x.detach(), scale=s, out=torch.empty(2))),
    ]
    for error, text, call in cases:
        with pytest.raises(error, match=text):
            call()


def test_tensors_of_two_devices():
    """Here on the CPU, and on none; on CUDA it would be two kinds of memory."""
    x, far = numbers(2, 3), torch.empty(2, 3, device="meta")
    target = torch.zeros(2, dtype=torch.int64, device="meta")
    for call in (
        lambda: st.softmax_vjp(x, far),
        lambda: st.softmax_double_backward(x, x, far),
        lambda: st.softmax(x, where=far > 0),
        lambda: st.softmax(x, out=far),
        lambda: st.softmax_vjp(far, far, out=x),
        lambda: st.entropy(far, where=x > 0),
        lambda: st.cross_entropy(x, target),
        lambda: st.cross_entropy(x, far),
        lambda: st.segment_softmax(x, target),
        lambda: st.segment_softmax_vjp(x, x, target),
    ):
        with pytest.raises(RuntimeError, match="must be on one device"):
            call()


@pytest.mark.parametrize("lacks", ["nothing", "a device of CUDA", "Triton", "a C compiler", "Ampere", "CUDA"])
def test_where_the_kernels_for_gpus_run(monkeypatch, lacks):
    monkeypatch.setenv("CC", "" if lacks == "a C compiler" else "cc")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if lacks == "Triton" else name)
    monkeypatch.setattr(torch.version, "hip", "7.0" if lacks == "CUDA" else None)
    oldest = (7, 5) if lacks == "Ampere" else (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: oldest)
    device = torch.device("meta" if lacks == "a device of CUDA" else "cuda")
    assert backend.triton_runs_on.__wrapped__(device) == (lacks == "nothing")


def test_a_triton_that_is_too_old_is_told_at_the_forward(monkeypatch):
    triton = pytest.importorskip("triton")
    launch = importlib.import_module("softgrad.gpu.launch")
    for found in ("3.6.0", "3.10.0+git1", "4.0"):
        launch.check_version(found)
    x = torch.empty(2, 3, device="meta")  # of which a kernel could not be launched
    monkeypatch.setattr(backend, "triton_runs_on", lambda device: True)
    for name in [name for name in sys.modules if name.startswith("softgrad.gpu")]:
        monkeypatch.delitem(sys.modules, name)
    for found in ("3.5.1", "2.3.0"):
        monkeypatch.setattr(triton, "__version__", found)
        for call in (
            lambda: backend.forward(MAPS["softmax"], x, (-1,), None, 1.0, "zero"),
            lambda: backend.product(MAPS["entmax"], "vjp", x, x, (-1,), None, 1.0, 1.5),
        ):
            with pytest.raises(ImportError, match=rf"Triton {found} .* take 3.6 or later.*pip install"):
                softgrad.explain(call)


def test_out():
    x, out = numbers(2, 6), torch.empty(2, 12)[:, ::2]
    assert st.softmax(x, out=out) is out
    assert torch.equal(out, st.softmax(x))
    y, dy = out.clone(), numbers(2, 6, seed=1)
    expected = st.softmax_vjp(y, dy)
    assert st.softmax_vjp(y, dy, out=dy) is dy
    assert torch.equal(dy, expected)


def test_autograd_sees_what_is_written():
    """Else it would go on with a saved tensor that is not what it was."""
    y, dy, offsets = numbers(2, 6), numbers(2, 6, seed=1), torch.tensor([0, 2])
    for write in (
        lambda out: st.softmax_vjp(y, dy, out=out),
        lambda out: st.entmax_jvp(y, dy, out=out),
        lambda out: st.segment_softmax_vjp(y, dy, offsets, out=out),
        lambda out: softgrad.logsumexp_vjp(y, dy[:, 0], out=out),
        lambda out: st.softmax(y, out=out),
    ):
        out = torch.empty(2, 6)
        write(out)
        assert out._version > 0
    x = numbers(2, 6).requires_grad_()
    torch.autograd.grad(st.softmax(x, reuse_dy=True), x, dy)
    assert dy._version > 0


# --- memory ------------------------------------------------------------------------------------------


def saved(function, x):
    """What autograd keeps of a call."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        return function(x), kept


@each_map
def test_one_tensor_is_saved_and_it_is_y(name):
    x = numbers(3, 5).requires_grad_()
    for options in ({}, {"where": x.detach() > 0}, {"scale": 2.0}, {"dim": 0}):
        y, kept = saved(lambda x, o=options: getattr(st, name)(x, **o), x)
        assert [k.data_ptr() for k in kept] == [y.data_ptr()]


def test_what_the_others_save():
    x, target = numbers(3, 5).requires_grad_(), torch.tensor([0, 1, 2])
    for function in (st.logsumexp, st.entropy):
        assert [k.data_ptr() for k in saved(function, x)[1]] == [x.data_ptr()]
    kept = {k.data_ptr(): k for k in saved(lambda x: st.cross_entropy(x, target, reduction="sum"), x)[1]}
    assert sorted(k.dtype.is_floating_point for k in kept.values()) == [False, True]
    assert x.data_ptr() not in kept


@each_map
def test_the_gradient_in_the_memory_of_dy(name):
    """As an option, and only where no derivative follows and dy is dense."""
    x = numbers(4, 33).requires_grad_()
    dy = numbers(4, 33, seed=1)
    (expected,) = torch.autograd.grad(getattr(st, name)(x), x, dy)
    (dx,) = torch.autograd.grad(getattr(st, name)(x), x, dy)
    assert dx.data_ptr() != dy.data_ptr()
    (dx,) = torch.autograd.grad(
        getattr(st, name)(x, reuse_dy=True), x, dy.requires_grad_(), create_graph=True
    )
    assert dx.data_ptr() != dy.data_ptr()
    (dx,) = torch.autograd.grad(getattr(st, name)(x, reuse_dy=True), x, dy.detach())
    assert dx.data_ptr() == dy.data_ptr()
    assert torch.equal(dx, expected)
    wide = numbers(4, 66)
    (dx,) = torch.autograd.grad(getattr(st, name)(x, reuse_dy=True), x, wide[:, ::2])
    assert torch.equal(wide, numbers(4, 66))


# --- paths -------------------------------------------------------------------------------------------


def test_the_functions_of_softgrad_take_tensors():
    x, dy = numbers(4, 6), numbers(4, 6, seed=1)
    for name in MAPS:
        y = getattr(softgrad, name)(x, axis=0)
        assert torch.equal(y, getattr(st, name)(x, dim=0))
        assert torch.equal(
            getattr(softgrad, f"{name}_vjp")(y, dy, axis=0), getattr(st, f"{name}_vjp")(y, dy, dim=0)
        )
        one, pullback = getattr(softgrad, f"{name}_with_vjp")(x, axis=0)
        assert torch.equal(one, y)
        assert torch.equal(pullback(dy), getattr(softgrad, f"{name}_vjp")(y, dy, axis=0))
        assert len(getattr(softgrad, f"{name}_double_backward")(y, dy, dy, axis=0)) == 2
    for name in ("logsumexp", "entropy"):
        result, pullback = getattr(softgrad, f"{name}_with_vjp")(x)
        same_bits(result, getattr(softgrad, name)(x.numpy()))
        same_bits(pullback(dy[:, 0]), getattr(softgrad, f"{name}_vjp")(x.numpy(), dy[:, 0].numpy()))
    target = torch.tensor([0, 5, 2, 2])
    loss, pullback = softgrad.cross_entropy_with_vjp(x, target)
    right, of_arrays = softgrad.cross_entropy_with_vjp(x.numpy(), target.numpy())
    same_bits(loss, right)
    same_bits(pullback(0.5), of_arrays(0.5))
    alpha = softgrad.entmax_alpha_vjp(softgrad.entmax(x), dy)
    expected = softgrad.entmax_alpha_vjp(softgrad.entmax(x.numpy()), dy.numpy())
    same_bits(alpha, expected)
    y, pullback = softgrad.segment_softmax_with_vjp(x, [0, 1, 4])
    same_bits(pullback(dy), softgrad.segment_softmax_vjp(y.numpy(), dy.numpy(), [0, 1, 4]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_small_contiguous_tensors_take_the_fast_path(dtype):
    """After a first call, with the same bits; what does not fit takes the long way."""
    for name, shape, dim, scale, fast in [
        ("softmax", (4, 4), -1, 1.0, True),
        ("log_softmax", (3, 5), -1, -1.0, False),
        ("softmax", (3, 7, 64), -2, 0.5, True),
        ("softmax", (3, 7, 3), 1, 0.5, True),
        ("softmax", (3, 107, 3), 1, 0.5, False),  # too narrow for the kernel of columns
        ("softmax", (5, 1), 1, 1.0, True),
        ("softmax", (5, 1), 0, 1.0, True),
        ("log_softmax", (1, 6), -1, 1e-30, False),
        ("softmax", (), -1, 1.0, False),
        ("softmax", (0, 3), -1, 1.0, False),
        ("softmax", (600, 600), -1, 1.0, False),  # which threads share
    ]:
        x, dy = numbers(*shape, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
        vjp, options = getattr(st, f"{name}_vjp"), {"dim": dim, "scale": scale}
        for _ in range(2):
            y = getattr(st, name)(x, **options)
            dx = vjp(y, dy, **options)
        with threads.watched() as watched:  # which closes it
            same_bits(y, tensors.array(getattr(st, name)(x, **options)))
            same_bits(dx, tensors.array(vjp(y, dy, **options)))
        assert len(watched) == (0 if 0 in shape else 2)
        results = [ops.fast_forward(name, x, dim, scale), ops.fast_vjp(name, y, dy, dim, scale)]
        assert [result is not None for result in results] == [fast, fast], (name, shape)
        for result, right in zip(results, (y, dx), strict=True):
            assert result is None or torch.equal(result, right)
        # the same through autograd
        z = x.clone().requires_grad_()
        y_z = getattr(st, name)(z, **options)
        same_bits(y_z.detach(), tensors.array(y))
        same_bits(torch.autograd.grad(y_z, z, dy)[0], tensors.array(dx))
        if x.ndim > 1 and min(shape[-2:]) > 1:
            assert ops.fast_forward(name, x.mT, dim, scale) is None


def test_what_is_refused_is_refused_beside_the_fast_path_too():
    x = numbers(4, 4).float().requires_grad_()
    for _ in range(2):
        torch.autograd.grad(st.softmax(x), x, numbers(4, 4, seed=1).float())  # opens it
    for scale in (NAN, INF, 1e40):
        with pytest.raises(ValueError, match="^scale"):
            st.softmax(x, scale=scale)
    with pytest.raises(TypeError, match="complex64"):
        st.softmax(torch.zeros(4, 4, dtype=torch.complex64, requires_grad=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's
        sparse = torch.eye(4).to_sparse_csr()
    with pytest.raises(TypeError, match="sparse_csr"):
        st.softmax(sparse)
    with pytest.raises(IndexError):
        st.softmax(x, 2)
    for dim, scale in ((0, -1.0), (-2, 1e-30), (1, 0.0)):
        y = st.softmax(x, dim, scale=scale)
        same_bits(y.detach(), softgrad.softmax(x.detach().numpy(), axis=dim, scale=scale))


def test_which_path_ran():
    x = numbers(3, 4).requires_grad_()
    assert [s.kernel for s in softgrad.explain(st.softmax, x)] == ["softmax"]
    y = st.softmax(x)
    assert [s.kernel for s in softgrad.explain(y.sum().backward)] == ["softmax_vjp"]
    assert softgrad.explain(torch.softmax, x, -1) == ()
    grads = softgrad.explain(st.softmax_double_backward, y.detach(), y.detach(), y.detach())
    assert [(s.by, s.kernel) for s in grads] == [
        ("numba", "softmax_vjp"),
        ("numba", "softmax_double_backward"),
    ]


@each_map
def test_the_formulas_where_there_are_no_kernels(name):
    """Here on tensors of the CPU, beside the kernels: masks, empty rows, NaN, infinities, in float64."""
    x = numbers(4, 5).double()
    x[0], x[1, 2], x[2, 1], x[3, 0] = -INF, NAN, INF, -INF
    x = torch.cat([x, numbers(6, 5, seed=3).double()])
    where, dy = numbers(10, 5, seed=1) > -1, numbers(10, 5, seed=2).double()
    row, dims, alpha = MAPS[name], (-1,), MAPS[name].alpha
    for mask in (None, where):
        for empty in ("zero", "nan"):
            y = backend.forward_by_formulas(row, x, dims, mask, 0.7, empty)
            right = backend.forward(row, x, dims, mask, 0.7, empty)
            assert off_by(y, right) <= 3
        for kind in ("vjp", "jvp"):
            found = composites.product(row, kind, right, dy, dims, mask, 0.7, alpha)
            expected = backend.product(row, kind, right, dy, dims, mask, 0.7)
            assert off_by(found, expected) <= 3
    clean = backend.forward(row, x[4:], dims, None, 0.7, "zero")
    grads = composites.double_backward(row, clean, dy[4:], dy[:6], dims, 0.7, alpha)
    expected = backend.double_backward(row, clean, dy[4:], dy[:6], dims, 0.7)
    for found, right in zip(grads, expected, strict=True):
        assert off_by(found, right) <= 4
    # along other dims: the same numbers in another order
    block = numbers(4, 3, 5, seed=4)
    found = backend.forward_by_formulas(row, block, (-3, -1), None, 1.0, "zero").transpose(0, 1).flatten(1)
    rows = block.transpose(0, 1).flatten(1)
    assert off_by(found, backend.forward_by_formulas(row, rows, dims, None, 1.0, "zero")) <= 1


def test_nothing_of_torch_is_loaded_before_it_is_used():
    code = (
        "import sys, softgrad, numpy; softgrad.softmax(numpy.ones(3)); assert 'torch' not in sys.modules;"
        "softgrad.torch.softmax; assert 'torch' in sys.modules; assert not hasattr(softgrad, 'jax_')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
def test_scale_times_the_gradient_may_overflow(name):
    """In float64 1e300·1e20 does, but not times the p that is as small."""
    x, dy = (
        torch.tensor([[0.0, -7e-18, -1.0]], dtype=torch.float64),
        torch.tensor([1e300], dtype=torch.float64),
    )
    function = getattr(softgrad, f"{name}_vjp")
    found = function(x, dy, scale=1e20)
    same_bits(found, function(x.numpy(), dy.numpy(), scale=1e20))
    assert torch.isfinite(found[0, 1:]).all()
