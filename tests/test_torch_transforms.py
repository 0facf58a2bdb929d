"""What PyTorch traces: registered operators, torch.compile, vmap, and modes that watch."""

import pytest

torch = pytest.importorskip("torch")

from contract import off_by  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import softgrad  # noqa: E402
import softgrad.torch as st  # noqa: E402
from softgrad.specs import MAPS  # noqa: E402
from softgrad.torch import segments  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

each_map = pytest.mark.parametrize("name", MAPS)
OFFSETS, CLASSES = torch.tensor([0, 1, 1, 4]), torch.tensor([0, 5, 2, 2])


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- registered operators ----------------------------------------------------------------------------

WAITING = {"entmax", "entmax_vjp", "entmax_jvp", "segment_softmax", "segment_softmax_vjp"}


def test_tags():
    """PyTorch may trace every operator, and record all in a CUDA graph but those for which the host waits."""
    tags = {name: getattr(torch.ops.softgrad, name).default.tags for name, _ in operators()}
    assert all(torch.Tag.pt2_compliant_tag in found for found in tags.values())
    assert {name for name, found in tags.items() if torch.Tag.cudagraph_unsafe in found} == WAITING


class Count(TorchDispatchMode):
    """How many operations PyTorch runs."""

    number = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.number += 1
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize(
    "call",
    [
        lambda x, offsets: segments.softmax_by_scatter(x, offsets, 0, 1.0),
        lambda x, offsets: segments.vjp_by_scatter(x, x, offsets, 0, 1.0),
        lambda x, offsets: segments.log_weights(x, segments.Segments(x, offsets, None, None, 0, None), 1.0),
        lambda x, offsets: segments.log_product(
            "jvp", x, x, segments.Segments(x, offsets, None, None, 0, None), 1.0
        ),
    ],
    ids=["softmax", "vjp", "log_softmax", "log_softmax_jvp"],
)
def test_no_loop_over_segments(call):
    """Which would launch kernels for each on a GPU."""
    counts = []
    for number in (2, 200):
        with Count() as count:
            call(numbers(1000, 3), torch.linspace(0, 1000, number + 1).long())
        counts.append(count.number)
    assert counts[0] == counts[1]


def test_explain_tells_of_the_formulas_of_segments():
    x = numbers(6).requires_grad_()
    y = st.segment_logsumexp(x, torch.tensor([0, 2, 6]))
    (ran,) = softgrad.explain(torch.autograd.grad, y.sum(), x, create_graph=True)
    assert (ran.by, ran.kernel) == ("formulas", "segments")


def operators():
    x, dy, v = numbers(4, 6), numbers(4, 6, seed=1), numbers(4, 6, seed=2)
    for name in MAPS:
        y = getattr(st, name)(x)
        yield name, (x,)
        yield name, (x, [-2], x > 0, 0.5)
        yield f"{name}_vjp", (y, dy)
        yield f"{name}_jvp", (y, dy)
        yield f"{name}_double_backward", (y, dy, v)
    yield "entmax", (x / 4, [-1], None, 1.0, "zero", 1.5, torch.tensor(1.7, dtype=torch.float64))
    for name in ("logsumexp", "entropy"):
        yield name, (x,)
        yield f"{name}_vjp", (x, dy[:, :1].clone())
    yield "segment_softmax", (x, OFFSETS, -2)
    yield "segment_softmax_vjp", (st.segment_softmax(x, OFFSETS), dy, OFFSETS, -2)
    yield "cross_entropy", (x, CLASSES)


@pytest.mark.parametrize(
    ("name", "arguments"), list(operators()), ids=lambda a: a if isinstance(a, str) else ""
)
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_opcheck(name, arguments):
    leaves = [
        a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
        for a in arguments
    ]
    found = torch.library.opcheck(getattr(torch.ops.softgrad, name).default, tuple(leaves))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dim", [[0, 2], [1], [-1, 0], []], ids=str)
def test_dims_of_an_operator_may_count_from_the_first(dim):
    x, ops = numbers(2, 3, 4).requires_grad_(), torch.ops.softgrad
    y = st.softmax(x, tuple(dim))
    assert torch.equal(ops.softmax(x, dim), y)
    assert torch.equal(ops.softmax_vjp(y, x, dim), st.softmax_vjp(y, x, tuple(dim)))
    assert torch.equal(
        ops.softmax_double_backward(y, x, x, dim)[0], st.softmax_double_backward(y, x, x, tuple(dim))[0]
    )
    found = ops.entropy(x, dim)
    assert torch.equal(found, st.entropy(x, tuple(dim), True))
    torch.library.opcheck(ops.softmax.default, (x, dim))
    number = torch.tensor(2.0)
    assert ops.softmax(number) == ops.softmax(number, [0]) == ops.softmax(number, []) == 1
    with torch.no_grad():
        assert torch.equal(ops.softmax(x.float(), dim), st.softmax(x.float(), tuple(dim)))


def test_the_one_dim_of_an_operator():
    x, ops = numbers(4, 6), torch.ops.softgrad
    assert torch.equal(ops.segment_softmax(x, OFFSETS, 0), st.segment_softmax(x, OFFSETS))
    assert torch.equal(ops.cross_entropy(x.T, CLASSES, 0)[0], st.cross_entropy(x, CLASSES, reduction="none"))


def test_what_an_operator_refuses():
    x, ops = numbers(2, 3), torch.ops.softgrad
    cases = [
        (IndexError, "dim 7 is out of bounds", lambda x: ops.softmax(x, [7])),
        (IndexError, "dim 7 is out of bounds", lambda x: ops.logsumexp(x, [7])),
        (IndexError, "dim 7 is out of bounds", lambda x: ops.segment_softmax(x, torch.tensor([0, 2]), 7)),
        (IndexError, "dim -3 is out of bounds", lambda x: ops.cross_entropy(x, x, -3)),
        (ValueError, "names a dim twice", lambda x: ops.softmax(x, [0, -2])),
        (ValueError, "alpha=0.5", lambda x: ops.entmax(x, alpha=0.5)),
        (ValueError, "scale=inf", lambda x: ops.softmax(x, scale=torch.inf)),
        (ValueError, "empty='no'", lambda x: ops.softmax(x, empty="no")),
        (TypeError, "x has dtype torch.int64", lambda x: ops.softmax(x.long())),
        (TypeError, "dy has dtype torch.float32", lambda x: ops.softmax_vjp(x, x.float())),
        (TypeError, "where has dtype", lambda x: ops.softmax(x, where=x)),
    ]
    for error, text, call in cases:
        for given in (x, x.clone().requires_grad_(), x.to("meta")):
            with pytest.raises(error, match=text):
                call(given)


@each_map
def test_transforms_of_an_operator_itself(name):
    """All levels follow it, those further out too."""
    x = numbers(4, 6)
    own, function = getattr(torch.ops.softgrad, name), getattr(st, name)

    def twice(turn, one):
        return torch.func.grad(lambda x: turn(lambda x: one(x).sin().sum())(x).cos().sum())

    for turn in (torch.func.grad, torch.func.jacfwd):
        expected = twice(turn, function)(x)
        assert torch.equal(twice(turn, own)(x), expected)
        assert expected.abs().max() > 1e-3 or name == "sparsemax"
    assert torch.equal(torch.vmap(own)(x), function(x))


def test_every_row_of_the_table_is_registered():
    for name in MAPS:
        for ending in ("", "_vjp", "_jvp", "_double_backward"):
            assert hasattr(torch.ops.softgrad, name + ending)


# --- torch.compile -----------------------------------------------------------------------------------

COMPILED = {
    "softmax": lambda x: st.softmax(x, 0),
    "softgrad.softmax": lambda x: softgrad.softmax(x, axis=0),
    "log_softmax": lambda x: st.log_softmax(x, where=x > -1, scale=0.5).clamp(min=-9),
    "sparsemax": lambda x: softgrad.sparsemax(x),
    "entmax": lambda x: st.entmax(x, 1.3),
    "softgrad.entmax": lambda x: softgrad.entmax(x, 1.7),
    "a learnt alpha": lambda x: st.entmax(x, x.mean() * 0 + 1.6),
    "a learnt scale": lambda x: st.softmax(x, scale=x[0, 0]),
    "logsumexp": lambda x: st.logsumexp(x, (0, 1)),
    "entropy": lambda x: st.entropy(x, 0, True),
    "segments": lambda x: st.segment_softmax(x, OFFSETS),
    "log_softmax of segments": lambda x: st.segment_log_softmax(x, OFFSETS),
    "logsumexp of segments": lambda x: st.segment_logsumexp(x, OFFSETS),
    "entropy of segments": lambda x: st.segment_entropy(x, OFFSETS),
    "sinks": lambda x: st.softmax(x, sink=x[0, 0]),
    "cross_entropy": lambda x: st.cross_entropy(x, CLASSES),
    "a module": lambda x: st.Softmax(-1)(x, x > 0),
    "vjp": lambda x: st.softmax_vjp(x.sigmoid(), x),
    "double backward": lambda x: st.entmax_double_backward(x.sigmoid(), x, x)[0],
    "vmap": lambda x: torch.vmap(st.softmax)(x),
    "a gradient within": lambda x: torch.func.grad(lambda x: st.softmax(x).sin().sum())(x),
}


def same(name, found, expected):
    """Some functions are kernels, but PyTorch's operations where they are compiled."""
    others = (
        "a learnt scale",
        "sinks",
        "log_softmax of segments",
        "logsumexp of segments",
        "entropy of segments",
    )
    whole = tuple(range(found.ndim))
    return off_by(found, expected, whole) <= 16 if name in others else torch.equal(found, expected)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_whole_with_dynamic_shapes(name):
    """`aot_eager` finds a graph break, and traces forward and backward, but compiles nothing."""
    function = COMPILED[name]
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    for n in (6, 9):
        x = numbers(4, n).requires_grad_()
        found, expected = compiled(x), function(x)
        assert same(name, found, expected)
        dy = numbers(*expected.shape, seed=1)
        (dx,), (right,) = (torch.autograd.grad(y, x, dy) for y in (found, expected))
        assert same(name, dx, right)


@pytest.mark.parametrize("name", [name for name in COMPILED if name != "a gradient within"])
def test_compiled_whole_where_no_gradient_is_wanted(name):
    torch._dynamo.reset()
    x, function = numbers(4, 6), COMPILED[name]
    with torch.no_grad():
        found = torch.compile(function, backend="aot_eager", fullgraph=True)(x)
        assert same(name, found, function(x))


def test_compiled_where_operators_have_to_say_that_they_may_be():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(only_allow_pt2_compliant_ops=True):
        compiled = torch.compile(COMPILED["log_softmax"], backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(numbers(4, 6)), COMPILED["log_softmax"](numbers(4, 6)))


def test_exported():
    """A program has the operators, and softgrad.torch imported is all that it needs."""
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), st.Softmax(-1, scale=0.5), st.Entmax(1.3)).double()
    program, x = torch.export.export(model, (numbers(4, 6),)), numbers(4, 6, seed=1)
    assert torch.equal(program.module()(x), model(x))
    assert {"softgrad.softmax.default", "softgrad.entmax.default"} <= {
        str(n.target) for n in program.graph.nodes
    }


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_made_of_operators_that_onnx_knows():
    """`torch.onnx.export` was tried by hand: it asks PyTorch's table of decompositions, as is done here."""

    class Model(torch.nn.Module):
        def forward(self, x, where):
            return st.softmax(x, where=where, scale=0.5), st.log_softmax(x, (0, 1))

    x, where = numbers(4, 6), numbers(4, 6, seed=1) > 0
    ours = [getattr(torch.ops.softgrad, name).default for name in ("softmax", "log_softmax")]
    program = torch.export.export(Model(), (x, where)).run_decompositions(
        torch._decomp.get_decompositions(ours)
    )
    assert not [node for node in program.graph.nodes if "softgrad" in str(node.target)]
    for found, expected in zip(program.module()(x, where), Model()(x, where), strict=True):
        assert off_by(found, expected) <= 4


def test_compiled_code():
    """Once by the compiler that users have, in bfloat16 and not contiguous: the kernels run within."""
    pytest.importorskip("torch._inductor")

    def loss(x):
        return (st.softmax(2 * x.mT, -1).float() ** 2).sum()

    torch._dynamo.reset()
    x = numbers(6, 4).bfloat16().requires_grad_()
    compiled = torch.compile(loss, fullgraph=True)
    try:
        found = compiled(x)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"no compiler here: {str(error).splitlines()[0]}")
    (dx,), (right,) = (torch.autograd.grad(y, x) for y in (found, loss(x)))
    assert off_by(dx, right) <= 1
    assert [s.kernel for s in softgrad.explain(compiled, x)] == ["softmax"]


# --- vmap --------------------------------------------------------------------------------------------


@each_map
@pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
@pytest.mark.parametrize("dim", [0, -1, None], ids=str)
def test_vmap_over_any_dim(name, in_dim, dim):
    x, dy = numbers(3, 4, 5), numbers(3, 4, 5, seed=1)

    def both(x, dy):
        y = getattr(st, name)(x, dim=dim, where=x < 1.5)
        return y.exp(), getattr(st, f"{name}_vjp")(y, dy, dim=dim)

    found = torch.vmap(both, in_dims=in_dim)(x, dy)
    slices = [both(a, b) for a, b in zip(x.movedim(in_dim, 0), dy.movedim(in_dim, 0), strict=True)]
    for one, other in zip(found, zip(*slices, strict=True), strict=True):
        assert off_by(one, torch.stack(other)) <= 16  # the slices may be columns where the batch is rows


def test_vmap_over_some_of_the_arguments():
    x, where = numbers(5), numbers(3, 5) > -1
    found = torch.vmap(lambda w: st.softmax(x, where=w))(where)
    assert torch.equal(found, torch.stack([st.softmax(x, where=w) for w in where]))
    found = torch.vmap(lambda x, t: st.cross_entropy(x, t))(numbers(4, 6), CLASSES)
    assert torch.equal(found, st.cross_entropy(numbers(4, 6), CLASSES, reduction="none"))
    with pytest.raises(NotImplementedError, match="vmap over alpha"):
        torch.vmap(lambda a: st.entmax(x, a))(torch.tensor([1.5, 2.0]))
    with pytest.raises(NotImplementedError, match="vmap over offsets"):
        torch.vmap(lambda o: st.segment_softmax(x, o))(torch.tensor([[0, 5], [0, 5]]))


# --- what watches ------------------------------------------------------------------------------------


def test_fake_tensors_and_modes_see_the_operator():
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        names: list

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    with FakeTensorMode():
        assert st.softmax(torch.empty(10**6, 10**6)).shape == (10**6, 10**6)
    seen = Seen()
    seen.names = []
    x = numbers(2, 3).requires_grad_()
    with seen:
        st.softmax(x).sum().backward()
    assert "softgrad.softmax.default" in seen.names
    assert "softgrad.softmax_vjp.default" in seen.names


def test_zeros_without_memory():
    """As PyTorch makes them for tangents: their address is 0."""
    x, zeros = numbers(2, 3), torch._efficientzerotensor((2, 3), dtype=torch.float64)
    assert torch.equal(st.softmax(zeros), st.softmax(torch.zeros_like(x)))
    assert (st.softmax_vjp(st.softmax(x), zeros) == 0).all()
    assert torch.equal(st.logsumexp(zeros), st.logsumexp(torch.zeros_like(x)))


def test_checkpointing_and_a_graph_kept():
    x = numbers(3, 5).requires_grad_()
    y = torch.utils.checkpoint.checkpoint(lambda x: st.softmax(x).sin(), x, use_reentrant=False)
    (dx,) = torch.autograd.grad(y.sum(), x)
    y = st.softmax(x).sin()
    for _ in range(2):
        assert torch.equal(torch.autograd.grad(y.sum(), x, retain_graph=True)[0], dx)
    z = st.softmax(x)
    z.mul_(2)  # what was saved is not there any more, which autograd must say
    with pytest.raises(RuntimeError, match="inplace operation"):
        z.sum().backward()
