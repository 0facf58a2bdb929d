"""Sinks, scales, means and segments on tensors: beside NumPy's, and their derivatives."""

import numpy as np
import pytest
from contract import as_array, off_by

torch = pytest.importorskip("torch")

import softgrad  # noqa: E402
import softgrad.torch as st  # noqa: E402
from softgrad.testing import errors, oracle  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
OFFSETS = torch.tensor([0, 2, 2, 5])
IDS = torch.tensor([2, 0, 2, 0, 2])


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).requires_grad_()


def check(function, *inputs):
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs)


def close(found, expected):
    """Within some eps of the norm of all."""
    assert off_by(found, expected, tuple(range(found.ndim))) <= 16


@pytest.mark.parametrize("dim", [-1, 0, (0, 2)])
def test_sinks(dim):
    x, dy = numbers(3, 4, 5), numbers(3, 4, 5, seed=1).detach()
    rows = list(x.shape)
    for d in (dim,) if isinstance(dim, int) else dim:
        rows[d] = 1
    sink, dy_sink = numbers(*rows, seed=2), numbers(*rows, seed=3).detach()
    where = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.8
    options = {"axis": dim, "where": where.numpy(), "scale": 0.7}
    y, y_sink = st.sink_softmax(x, sink, dim, where=where, scale=0.7)
    expected = softgrad.sink_softmax(x.detach().numpy(), sink.detach().numpy(), **options)
    close(y, expected[0])
    close(y_sink, expected[1])
    found = torch.autograd.grad([y, y_sink], [x, sink], [dy, dy_sink])
    expected = softgrad.sink_softmax_vjp(*expected, dy.numpy(), dy_sink.numpy(), **options)
    of_tensors = {"axis": dim, "where": where, "scale": 0.7}
    by_hand = softgrad.sink_softmax_vjp(y.detach(), y_sink.detach(), dy, dy_sink, **of_tensors)
    for one, other, third in zip(found, expected, by_hand, strict=True):
        close(one, other)
        close(third, other)
    tangents = x.detach(), sink.detach()
    one = softgrad.sink_softmax_jvp(y.detach(), y_sink.detach(), *tangents, axis=dim, where=where, scale=0.7)
    other = softgrad.sink_softmax_jvp(
        y.detach().numpy(), y_sink.detach().numpy(), *(t.numpy() for t in tangents), **options
    )
    for a, b in zip(one, other, strict=True):
        close(a, b)


def test_derivatives_of_sinks():
    x, sink, scale = numbers(2, 5), numbers(2, 1, seed=1), numbers(2, 1, seed=2)
    where = torch.tensor([[True, True, False, True, True], [False] * 5])
    check(lambda x, sink: st.sink_softmax(x, sink, scale=0.5), x, sink)
    check(lambda x, sink, scale: st.sink_softmax(x, sink, scale=scale), x, sink, scale)
    check(lambda x, sink: st.softmax(x, where=where, sink=sink), x, sink)


def test_softmax1():
    x = torch.tensor([[-torch.inf, -torch.inf], [0.0, 0.0]])
    y = st.softmax(x, sink=0.0)
    assert torch.equal(y, torch.tensor([[0.0, 0.0], [1 / 3, 1 / 3]]))
    with pytest.raises(TypeError, match="beside a sink"):
        st.softmax(x, sink=0.0, empty="nan")
    with pytest.raises(ValueError, match="sink has shape"):
        st.sink_softmax(x, torch.zeros(3))


def test_attention_as_transformers_has_it():
    """The eager sinks of gpt-oss: a sink for each head, shared by the rows."""
    x, sinks, dy = numbers(2, 3, 6, 6), numbers(3, seed=1), numbers(2, 3, 6, 6, seed=2).detach()
    whole = torch.cat([x, sinks.reshape(1, -1, 1, 1).expand(2, -1, 6, -1)], dim=-1)
    whole = whole - whole.max(dim=-1, keepdim=True).values
    expected = torch.softmax(whole, dim=-1)[..., :-1]
    y = st.softmax(x, sink=sinks.reshape(1, -1, 1, 1))
    close(y, expected)
    for one, other in zip(
        torch.autograd.grad(y, [x, sinks], dy), torch.autograd.grad(expected, [x, sinks], dy), strict=True
    ):
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sinks_keep_the_dtype(dtype):
    x = numbers(3, 7).detach().to(dtype)
    y, y_sink = st.sink_softmax(x, 0.5, scale=1.5)
    assert y.dtype is y_sink.dtype is dtype
    expected, _ = softgrad.sink_softmax(x.double().numpy(), 0.5, scale=1.5)
    off = errors.ulps(as_array(y), expected.astype(oracle.WIDE))
    assert off.max() <= (2 if dtype is torch.float32 else 0.51)


def test_scales_and_means():
    x, dy, scale = numbers(4, 6), numbers(4, 6, seed=1).detach(), numbers(4, 1, seed=2)
    y = st.softmax(x, scale=scale)
    dx, dscale = torch.autograd.grad(y, [x, scale], dy)
    arrays = x.detach().numpy(), y.detach().numpy(), dy.numpy()
    close(dscale, softgrad.softmax_scale_vjp(*arrays))
    close(softgrad.softmax_scale_vjp(x.detach(), y.detach(), dy), dscale)
    close(softgrad.softmax_vjp(y.detach(), dy, scale=scale.detach()), dx)
    close(softgrad.softmax_vjp(y.detach().numpy(), dy.numpy(), scale=scale.detach().numpy()), dx)
    found, mean = softgrad.softmax_vjp(y.detach(), dy, return_mean=True)
    expected, of_arrays = softgrad.softmax_vjp(*arrays[1:], return_mean=True)
    close(found, expected)
    close(mean, of_arrays)
    close(softgrad.softmax_vjp(y.detach()[:, :3], dy[:, :3], mean=mean), expected[:, :3])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy"])
@pytest.mark.parametrize("by", ["offsets", "ids"])
@pytest.mark.parametrize("masked", [False, True])
def test_segments(name, by, masked):
    x = numbers(5, 3)
    where = torch.tensor([True, False, True, True, True])[:, None] if masked else None
    segments = {"offsets": OFFSETS} if by == "offsets" else {"segment_ids": IDS, "num_segments": 3}
    options = {**segments, "where": where, "scale": -0.7}
    of_arrays = {key: getattr(value, "numpy", lambda value=value: value)() for key, value in options.items()}
    function = getattr(st, f"segment_{name}")
    y = function(x, **options)
    expected = getattr(softgrad, f"segment_{name}")(x.detach().numpy(), **of_arrays)
    close(y, expected)
    close(getattr(softgrad, f"segment_{name}")(x.detach(), **options), expected)
    finite = torch.isfinite(y.detach())
    dy = torch.where(finite, numbers(*y.shape, seed=1).detach(), 0.0)
    first = x if name in ("logsumexp", "entropy") else y
    found = torch.autograd.grad(y, x, dy, retain_graph=True)[0]
    vjp = getattr(softgrad, f"segment_{name}_vjp")
    expected = vjp(first.detach().numpy(), dy.numpy(), **of_arrays)
    close(vjp(first.detach(), dy, **options), expected)
    close(found, expected)
    if "softmax" in name:
        jvp = getattr(softgrad, f"segment_{name}_jvp")
        close(jvp(y.detach(), dy, **options), jvp(y.detach().numpy(), dy.numpy(), **of_arrays))
        if not masked:
            v = numbers(*y.shape, seed=2).detach()
            twice = getattr(softgrad, f"segment_{name}_double_backward")
            del options["where"], of_arrays["where"]
            grads = twice(y.detach(), dy, v, **options)
            for tensors in (grads, twice(y, dy, v, **options)):  # by the kernels, by PyTorch's operations
                expected = twice(y.detach().numpy(), dy.numpy(), v.numpy(), **of_arrays)
                for grad, right in zip(tensors, expected, strict=True):
                    close(grad, right)
            # the derivative by autograd of ⟨v, vjp(y(x), dy)⟩
            dy = dy.clone().requires_grad_()
            total = (vjp(function(x, **options), dy, **options) * v).sum()
            for grad, right in zip(torch.autograd.grad(total, (x, dy)), grads, strict=True):
                close(grad, right)


@pytest.mark.parametrize("name", ["log_softmax", "logsumexp", "entropy"])
def test_derivatives_of_segments(name):
    function = getattr(st, f"segment_{name}")
    check(lambda x: function(x, torch.tensor([0, 2, 5]), scale=0.7), numbers(5, 2))
    check(lambda x: function(x, segment_ids=torch.tensor([1, 0, 1, 0, 1])), numbers(5))


def test_log_probabilities_where_the_weights_underflow():
    x = torch.tensor([0.0, -200.0], requires_grad=True)
    y = st.segment_log_softmax(x, [0, 2])
    assert y.tolist() == [0, -200]
    assert torch.autograd.grad(y[1], x)[0].tolist() == [-1, 1]
    assert torch.autograd.grad(st.segment_entropy(x, [0, 2]).sum(), x)[0].tolist() == [0, 0]


def test_segments_with_nothing_in_them():
    x = torch.tensor([-torch.inf, -torch.inf, 3.0], requires_grad=True)
    y = st.segment_logsumexp(x, [0, 2, 2, 3])
    assert y.tolist() == [-torch.inf, -torch.inf, 3]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "give one of them"),
        ({"offsets": [0, 5], "num_segments": 1}, "num_segments is for segment_ids"),
        ({"segment_ids": [0, 1]}, "segment_ids has shape"),
        ({"segment_ids": [0, 1, -1, 0, 0]}, "segment_ids go from -1"),
    ],
)
def test_errors(options, text):
    with pytest.raises((TypeError, ValueError), match=text):
        st.segment_softmax(numbers(5), **options)


def test_what_is_wider_than_the_logits_keeps_its_digits():
    x = torch.full((3,), 10.0, dtype=torch.bfloat16)
    sink = torch.tensor([10.03])
    _, y_sink = st.sink_softmax(x, sink)
    exact = np.array([1 / (1 + 3 * np.exp(10.0 - float(sink)))], oracle.WIDE)
    assert errors.ulps(as_array(y_sink), exact).max() <= 0.51
    assert st.sink_softmax(x.half(), 70000.0)[1].item() == 1
    y, _ = st.sink_softmax(torch.tensor([1e30, 1e29]), 0.0, scale=1e10)
    assert y.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["log_softmax", "logsumexp", "entropy"])
def test_transforms_of_segments(name):
    def loss(x):
        return getattr(st, f"segment_{name}")(x, torch.tensor([0, 2, 3]))[:1].sum()

    x = numbers(3)
    expected = torch.autograd.grad(loss(x), x)[0]
    close(torch.func.grad(loss)(x.detach()), expected)
    by_ids = torch.func.grad(lambda x: getattr(st, f"segment_{name}")(x, segment_ids=[0, 0, 1])[:1].sum())
    close(by_ids(x.detach()), expected)


def test_fx_traces_them():
    class Module(torch.nn.Module):
        def forward(self, x):
            return st.softmax(x, sink=0.0) + st.segment_log_softmax(x, torch.tensor([0, 1, 3]), 1)

    traced, x = torch.fx.symbolic_trace(Module()), numbers(2, 3).detach()
    assert torch.equal(traced(x), Module()(x))


def test_out_beside_a_mean_is_checked():
    y, dy = torch.softmax(numbers(2, 3).detach(), -1), numbers(2, 3, seed=1).detach()
    out = torch.empty(2, 3, dtype=torch.float64)
    assert softgrad.softmax_vjp(y, dy, mean=torch.zeros(2, 1), out=out) is out
    with pytest.raises(ValueError, match="out has shape"):
        softgrad.softmax_vjp(y, dy, mean=torch.zeros(2, 1), out=torch.empty(4, 2, 3, dtype=torch.float64))


# --- what callers bring --------------------------------------------------------------------------------

EACH = {
    "softmax": st.softmax,
    "log_softmax": st.log_softmax,
    "entmax": st.entmax,
    "segments": lambda x: st.segment_softmax(x, torch.tensor([0, 2, len(x)])),
}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("unpack", [torch.Tensor.double, torch.Tensor.half, lambda t: t[:1, :1].contiguous()])
@pytest.mark.parametrize("n", [4, 700])
def test_hooks_that_change_what_was_saved(name, unpack, n):
    """It was read as what it had been: beyond its end."""
    x = torch.randn(n, n, requires_grad=True)
    for _ in range(2):  # the second takes the fast path
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: unpack(t) if t.ndim > 1 else t):
            y = EACH[name](x)
        with pytest.raises((RuntimeError, ValueError), match=r"dtype|shape|size of the"):
            y[:, 0].sum().backward()


@pytest.mark.parametrize("name", [*EACH, "sinks", "entropy of segments"])
def test_tensors_whose_storage_was_freed(name):
    functions = EACH | {
        "sinks": lambda x: st.softmax(x, sink=0.0),
        "entropy of segments": lambda x: st.segment_entropy(x, [0, 4]),
    }
    functions[name](torch.randn(4, 4))
    x = torch.randn(4, 4)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="no memory"):
        functions[name](x)


@pytest.mark.parametrize(
    "function",
    [
        st.softmax,
        lambda x: st.softmax(x, where=torch.ones(4, dtype=torch.bool)),
        lambda x: st.softmax(x, scale=torch.tensor(1.0)),
        lambda x: st.softmax(x, sink=-torch.inf),
        lambda x: st.log_softmax(x).exp(),
        lambda x: st.entmax(x, 1.0),
        lambda x: st.segment_softmax(x, [0, 4]),
    ],
)
def test_the_graph_of_batched_gradients(function):
    """A penalty on the Jacobian had no gradient."""
    x = numbers(4)
    found, expected = [], []
    for one, results in ((function, found), (lambda x: torch.softmax(x, -1), expected)):
        (g,) = torch.autograd.grad(one(x), x, torch.eye(4).double(), is_grads_batched=True, create_graph=True)
        results += torch.autograd.grad((g**2).sum(), x)
    close(found[0], expected[0])


def test_offsets_that_change_before_the_backward():
    offsets = torch.tensor([0, 2, 4])
    y = st.segment_logsumexp(numbers(4), offsets)
    offsets[1] = 3
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_operators_ask_for_one_shape():
    y = torch.rand(3, 4)
    for dy in (torch.rand(2, 4), torch.rand(4), torch.rand(3, 1)):
        with pytest.raises(RuntimeError, match="shape"):
            torch.ops.softgrad.softmax_vjp(y, dy, [-1])


def test_numbers_and_arrays_beside_tensors():
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert torch.equal(st.softmax(x, sink=np.float32(0)), st.softmax(x, sink=0.0))
    assert torch.equal(
        st.softmax(x, scale=torch.tensor([[2], [1]])), st.softmax(x, scale=torch.tensor([[2.0], [1.0]]))
    )
    with pytest.raises(TypeError, match=r"give torch.as_tensor\(sink\)"):
        st.softmax(x, sink=True)
    with pytest.raises(TypeError, match=r"give torch.as_tensor\(scale\)"):
        st.softmax(x, scale=np.ones((2, 1)))
    scale = torch.tensor([[torch.nan], [1.0]])
    for one in (scale, scale.expand(2, 2).contiguous()):
        y = st.softmax(x, scale=one)
        assert y[0].isnan().all()
        close(y[1:], st.softmax(x[1:]))
    y, dy = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([1.0, 2.0, torch.inf])
    assert softgrad.softmax_vjp(y, dy, mean=1.5).tolist() == [-0.25, 0.25, 0.0]
    assert st.softmax(x.requires_grad_()).grad_fn.name() == "SoftmaxBackward"
