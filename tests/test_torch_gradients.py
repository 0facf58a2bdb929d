"""Derivatives of tensors: every map of the table by PyTorch's own checks, in both modes and batched."""

import functools

import pytest

torch = pytest.importorskip("torch")

from contract import off_by  # noqa: E402

import softgrad  # noqa: E402
import softgrad.torch as st  # noqa: E402
from softgrad.specs import MAPS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

each_map = pytest.mark.parametrize("name", MAPS)
OFFSETS = torch.tensor([0, 2, 2, 5])
CLASSES = torch.tensor([1, 3, 0])
WHERE = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 1]]) == 1


def numbers(*shape, seed=0):
    made = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (made / 2).requires_grad_()


def check(function, *inputs):
    """Closer than by default: some entries are below an atol of 1e-5, and the quotients are off by 1e-10."""
    close = {"atol": 1e-8, "rtol": 1e-5, "check_batched_grad": True}
    modes = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(function, inputs, **close, **modes)
    assert torch.autograd.gradgradcheck(function, inputs, **close, check_fwd_over_rev=True)


@each_map
@pytest.mark.parametrize("dim", [-1, 0, (0, 1)], ids=str)
def test_every_map(name, dim):
    check(lambda x: getattr(st, name)(x, dim=dim, scale=0.7), numbers(3, 5))


@each_map
def test_every_map_with_a_mask(name):
    """What is masked is left out of the result: of log_softmax it is −inf."""
    check(lambda x: torch.where(WHERE, getattr(st, name)(x, where=WHERE), 0.0), numbers(3, 5))


@each_map
def test_the_third_derivative(name):
    """By reverse mode alone, and by two more turns of forward mode over it."""
    x, v = numbers(5).detach(), numbers(5, seed=1).detach()

    def third(outer, inner):
        return outer(outer(inner(lambda x: (getattr(st, name)(x) * v).exp().sum())))(x)

    one, other = (third(turn, torch.func.grad) for turn in (torch.func.jacrev, torch.func.jacfwd))
    assert off_by(one, other) <= 8
    assert one.abs().max() > 1e-3


@pytest.mark.parametrize(
    "function",
    [
        st.logsumexp,
        st.entropy,
        lambda x: st.segment_softmax(x, torch.tensor([0, 2, 5])),
        lambda x: st.cross_entropy(x, torch.tensor(2)),
    ],
    ids=["logsumexp", "entropy", "segment_softmax", "cross_entropy"],
)
def test_the_third_derivative_of_the_others(function):
    x, found = numbers(5).detach(), []
    for turn in (torch.func.jacrev, torch.func.jacfwd):
        first = torch.func.grad(lambda x: function(x).exp().square().sum())
        found.append(turn(turn(first))(x))
    assert off_by(*found) <= 6
    assert found[0].abs().max() > 1e-3


@each_map
def test_hessian(name):
    x, v = numbers(4, 5).detach(), numbers(5, seed=1).detach()

    def loss(row):
        return (getattr(st, name)(row) * v).sin().sum()

    batched = torch.func.vmap(torch.func.hessian(loss))(x)
    for row, found in zip(x, batched, strict=True):
        expected = torch.autograd.functional.hessian(loss, row)
        assert off_by(found, expected) <= 8
        assert found.abs().max() > 1e-3


@each_map
@pytest.mark.parametrize("kind", ["vjp", "jvp"])
def test_the_products_as_functions_of_y_and_v(name, kind):
    """y is moved by moving x: beside what the map puts out, log_softmax's product means nothing."""
    product = getattr(st, f"{name}_{kind}")
    check(lambda x, v: product(getattr(st, name)(x), v, scale=1.5), numbers(2, 5), numbers(2, 5, seed=1))


@each_map
def test_double_backward_is_what_autograd_finds(name):
    x, dy, v = numbers(3, 5), numbers(3, 5, seed=1), numbers(3, 5, seed=2)
    (dx,) = torch.autograd.grad(getattr(st, name)(x), x, dy, create_graph=True)
    expected = torch.autograd.grad(dx, (x, dy), v)
    y = getattr(st, name)(x).detach()
    for found, right in zip(
        getattr(st, f"{name}_double_backward")(y, dy.detach(), v.detach()), expected, strict=True
    ):
        assert off_by(found, right) <= 4
    double = getattr(st, f"{name}_double_backward")
    assert torch.autograd.gradcheck(lambda x, dy, v: double(getattr(st, name)(x), dy, v), (x, dy, v))


def test_a_learnt_scale():
    check(lambda x, s: st.softmax(x, scale=s), numbers(2, 4), numbers())
    check(lambda x, s: st.logsumexp(x, scale=s), numbers(2, 4), numbers(2, 1))


@pytest.mark.parametrize("function", [*(getattr(st, name) for name in MAPS), st.logsumexp, st.entropy])
def test_a_learnt_scale_beside_what_is_not_there(function):
    """What is masked, whatever it holds, or −inf, is nothing in its gradient, in either mode."""
    x, scale = torch.tensor([[0.1, 0.2, torch.nan, -torch.inf, torch.inf]]).double(), numbers()
    where = torch.tensor([[True, True, False, True, False]])

    def slopes(x, where):
        (found,) = torch.autograd.grad(function(x, scale=scale, where=where).flatten()[0], scale)
        _, forward = torch.func.jvp(
            lambda s: function(x, scale=s, where=where), (scale.detach(),), (scale.new_ones(()),)
        )
        return found, forward.flatten()[0]

    expected = slopes(x[:, :2], None)
    for given in ((x, where), (x[:, [0, 1, 3]], None), (x, where & ~x.isinf())):
        assert all(map(torch.equal, slopes(*given), expected))
    below = st.softmax(x[:, :4], where=where[:, :4], scale=-scale.abs())
    assert below.isnan().any()  # −inf is what it is


@pytest.mark.parametrize("start", [1.0, 1.4, 2.0, 2.6])
def test_a_learnt_alpha(start):
    """Where alpha is 1 a step to below would be refused: it is compared with the slope beside."""
    x, v = numbers(2, 4), numbers(2, 4, seed=1).detach()
    alpha = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    if start > 1:
        check(lambda x, a: st.entmax(x, a, scale=0.8), x, alpha)
        return
    for step in (0.0, 2.0**-20):
        (found,) = torch.autograd.grad((st.entmax(x, alpha + step) * v).sum(), alpha)
        slope = ((st.entmax(x, 1 + 2.0**-19) - st.entmax(x, 1.0)) * v).sum() * 2.0**19
        torch.testing.assert_close(found, slope, rtol=1e-4, atol=0)


def test_a_learnt_alpha_has_its_gradient_in_its_shape():
    alpha = torch.tensor([1.4], dtype=torch.float64, requires_grad=True)
    check(lambda x, a: st.entmax(x, a), numbers(2, 4), alpha)
    check(lambda x, a: torch.ops.softgrad.entmax(x, learnt=a), numbers(2, 4), alpha)


@each_map
def test_along_no_dim(name):
    """Each number is a row by itself, where PyTorch's `sum` takes no dims for all."""
    check(lambda x: getattr(st, name)(x, dim=()), numbers(2, 3))
    vjp = getattr(st, f"{name}_vjp")
    check(lambda x, v: vjp(getattr(st, name)(x, dim=()), v, dim=()), numbers(2), numbers(2))
    y = torch.tensor([0.5, 0.9], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(st.softmax_vjp(y, numbers(2), dim=()), y, numbers(2))
    assert (found == 0).all()


def test_the_others_along_no_dim():
    for function in (st.logsumexp, st.entropy):
        check(lambda x, f=function: f(x, dim=()), numbers(2, 3))
    y = numbers(2, 3).sigmoid().detach()
    assert softgrad.entmax_alpha_vjp(y, y, axis=()).shape == y.shape


def test_a_tangent_beside_what_is_not_there():
    """NaN in it counts as nothing, as it does in the gradient of a map."""
    x = torch.tensor([[0.1, 0.2, torch.nan, -torch.inf], [1.0, 2.0, 3.0, 4.0]]).double()
    where = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]]) == 1
    dx = torch.tensor([[1.0, 2.0, torch.nan, torch.nan], [1.0, 2.0, 1.0, 2.0]]).double()
    for function in (st.logsumexp, st.entropy):
        _, found = torch.func.jvp(lambda x, f=function: f(x, where=where), (x,), (dx,))
        _, right = torch.func.jvp(function, (x[:1, :2],), (dx[:1, :2],))
        assert torch.equal(found[:1], right)
        assert found.isfinite().all()
    x, dx, goal = x[:, [0, 1, 3]], dx[:, [0, 1, 3]], torch.tensor([1, 7])
    dx[1] = torch.nan  # a row that does not count
    loss = functools.partial(st.cross_entropy, target=goal, ignore_index=7, reduction="none")
    _, found = torch.func.jvp(loss, (x,), (dx,))
    _, right = torch.func.jvp(lambda x: st.cross_entropy(x, goal[:1]), (x[:1, :2],), (dx[:1, :2],))
    assert torch.equal(found, torch.stack([right, torch.zeros_like(right)]))
    _, second = torch.func.jvp(torch.func.grad(lambda x: loss(x).sum()), (x,), (dx,))
    assert second.isfinite().all()


@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "masked"])
@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
def test_reductions(name, where):
    check(lambda x: getattr(st, name)(x, where=where, scale=-1.3), numbers(3, 5))


def test_segment_softmax():
    check(lambda x: st.segment_softmax(x, OFFSETS, 1, scale=0.7), numbers(3, 5))
    check(lambda y, v: st.segment_softmax_vjp(y, v, OFFSETS), numbers(5, 2).abs(), numbers(5, 2, seed=1))


def test_cross_entropy():
    check(lambda x: st.cross_entropy(x, CLASSES, label_smoothing=0.1), numbers(3, 5))
    check(lambda x: st.cross_entropy(x, CLASSES, ignore_index=3, reduction="none"), numbers(3, 5))
    check(lambda x: st.cross_entropy(x, CLASSES, 0, reduction="sum"), numbers(5, 3))
    check(lambda x: st.cross_entropy(x, WHERE.double(), reduction="sum"), numbers(3, 5))
    check(lambda x, t: st.cross_entropy(x, t), numbers(3, 5), numbers(3, 5, seed=1))


@each_map
def test_a_number(name):
    """A tensor without dims counts as one number, under vmap too."""
    function = getattr(st, name)
    check(function, numbers())
    assert torch.equal(torch.func.vmap(function)(torch.zeros(3)), function(torch.zeros(3, 1)).squeeze(1))


def test_entmax_by_its_peer_has_no_second_derivative():
    """What the check tells of ours it would not tell of any."""
    entmax = pytest.importorskip("entmax")
    with pytest.raises(Exception, match=r"nan|mismatch|double|once"):
        torch.autograd.gradgradcheck(lambda x: entmax.entmax15(x, dim=-1), (numbers(3, 5),))
