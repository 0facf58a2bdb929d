"""DTensors: they keep their placements, and send nothing, or numbers, and no rows."""

import numpy as np
import processes
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import softgrad
import softgrad.torch as st
from softgrad.torch import dtensors

ROWS, N = 6, 10  # which four ranks do not divide
MESHES = {}


def mesh_of(*shape):
    if shape not in MESHES:
        MESHES[shape] = init_device_mesh("cpu", shape)
    return MESHES[shape]


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def collectives(counted):
    return {str(kind).rpartition(".")[2]: n for kind, n in counted.get_comm_counts().items()}


FORWARD = {
    "softmax": st.softmax,
    "log_softmax": st.log_softmax,
    "sparsemax": st.sparsemax,
    "entmax": st.entmax,
    "sink": lambda x, **options: st.sink_softmax(x, 0.5, **options)[0],
    "logsumexp": st.logsumexp,
    "entropy": st.entropy,
}
OF_ROWS = ("logsumexp", "entropy")
CASES = [*((name, 1) for name in FORWARD), ("softmax", 0), ("logsumexp", 0)]
BY_NUMBERS = ("softmax", "log_softmax", "logsumexp", "entropy")


def differentiated(name, dim, divided, seed=0):
    """What happens to a DTensor that is divided along a dim (None: whole); what a Tensor gives."""
    place = Replicate() if divided is None else Shard(divided)
    mesh, x = mesh_of(4), numbers(ROWS, N)
    part, whole = distribute_tensor(x, mesh, [place]).requires_grad_(), x.clone().requires_grad_()
    with CommDebugMode() as forward:
        y = FORWARD[name](part, dim=dim)
    right = FORWARD[name](whole, dim=dim)
    dy = numbers(*right.shape, seed=1)
    dy_part = distribute_tensor(dy, mesh, y.placements)
    with CommDebugMode() as backward:
        y.backward(dy_part)
    right.backward(dy)
    assert y.shape == right.shape
    close(y, right)
    close(part.grad, whole.grad)
    assert part.grad.placements == part.placements
    return y.placements, collectives(forward), collectives(backward)


def compile_once(name, dim):
    """The kernels, here and to disk, before four processes compile them at once."""
    for rows in (ROWS, 2):
        x = numbers(rows, N).requires_grad_()
        FORWARD[name](x, dim=dim).sum().backward()


def close(divided, whole):
    """To 8 eps of the row's largest: exactness is tested elsewhere."""
    scale = whole.detach().abs().amax().item()
    found = divided.full_tensor().detach()
    torch.testing.assert_close(found, whole.detach(), rtol=0, atol=8 * 2.0**-23 * scale)


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_what_is_divided_along_another_dim_sends_nothing(ranks, name, dim):
    compile_once(name, dim)
    for divided in (1 - dim, None):
        for placements, forward, backward in ranks(differentiated, name, dim, divided):
            assert forward == backward == {}
            place = Replicate() if divided is None else Shard(0 if name in OF_ROWS else divided)
            assert placements == (place,)


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_divided_rows_keep_their_placements(ranks, name, dim):
    compile_once(name, dim)
    # of numbers, or of rows by DTensor itself
    once = {"allgather_": 1} if name in BY_NUMBERS else {"all_gather_into_tensor": 1}
    for placements, forward, backward in ranks(differentiated, name, dim, dim):
        assert placements == (Replicate() if name in OF_ROWS else Shard(dim),)
        assert forward == once
        assert backward == ({} if name == "logsumexp" else once)


class Sent(torch.utils._python_dispatch.TorchDispatchMode):
    """The bytes of every collective."""

    def __init__(self):
        super().__init__()
        self.sent = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(issubclass(kind, torch.distributed.tensor.DTensor) for kind in types):
            return NotImplemented
        if "c10d" in str(function) and "wait" not in str(function):
            sent = args[1][0] if "allgather" in str(function) else args[0]
            self.sent += (sent[0] if isinstance(sent, list) else sent).nbytes
        return function(*args, **(kwargs or {}))


def bytes_sent(name):
    x = distribute_tensor(numbers(3, 40_000), mesh_of(4), [Shard(1)]).requires_grad_()
    with Sent() as found:
        FORWARD[name](x).sum().backward()
    return found.sent


@pytest.mark.parametrize("name", BY_NUMBERS)
def test_divided_rows_send_numbers_and_no_rows(ranks, name):
    for sent in ranks(bytes_sent, name):
        assert 0 < sent <= 2048 + 3 * 24 + 64  # and the sum of the loss; the rows have 480,000


PRODUCTS = {
    "softmax_vjp": (1, "softmax"),
    "softmax_jvp": (1, "softmax"),
    "log_softmax_vjp": (1, "log_softmax"),
    "log_softmax_jvp": (None, "log_softmax"),
    "sparsemax_vjp": (None, "sparsemax"),
    "entmax_vjp": (None, "entmax"),
    "softmax_double_backward": (None, "softmax"),
}


def multiplied(name, divided):
    place = Shard(divided)
    function, of = getattr(st, name), getattr(st, PRODUCTS[name][1])
    y, v = of(numbers(ROWS, N)), numbers(ROWS, N, seed=1)
    given = [y, v, v + 1] if "double" in name else [y, v]
    parts = [distribute_tensor(a, mesh_of(4), [place]) for a in given]
    with CommDebugMode() as counted:
        found = function(*parts)
    right = function(*given)
    for one, whole in zip(*[r if isinstance(r, tuple) else (r,) for r in (found, right)], strict=True):
        assert one.placements == (place,)
        close(one, whole)
    return collectives(counted)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(ranks, name):
    for divided in (0, 1):
        for counts in ranks(multiplied, name, divided):
            gathers = sum(n for kind, n in counts.items() if "gather" in kind)
            assert (gathers == 0) if divided == 0 else gathers >= 1
            if divided == 1 and PRODUCTS[name][0]:
                assert gathers == PRODUCTS[name][0]


def along_both():
    mesh, x, v = mesh_of(4), numbers(ROWS, N), numbers(ROWS, N, seed=1)
    for dim in (1, 0):
        given = st.softmax(x, dim=dim), v, v + 1
        found = st.softmax_double_backward(*[distribute_tensor(a, mesh, [Shard(0)]) for a in given], dim=dim)
        for one, whole in zip(found, st.softmax_double_backward(*given, dim=dim), strict=True):
            close(one, whole)


def test_what_is_known_of_one_dim_is_not_taken_for_another(ranks):
    """DTensor remembers placements by the arguments of an operator."""
    ranks(along_both)


def losses(divided, reduction, options, dim=1):
    """`divided` says whether the classes are, which lie along `dim`, or the rows."""
    mesh = mesh_of(4)
    x, target = numbers(ROWS, N), torch.tensor([0, 9, 5, 3, 2, 4])
    x = x if dim else x.T.contiguous()
    places = [Shard(dim if divided == "classes" else 1 - dim)]
    part = distribute_tensor(x, mesh, places).requires_grad_()
    classes = distribute_tensor(target, mesh, [Replicate() if divided == "classes" else Shard(0)])
    with CommDebugMode() as forward:
        loss = st.cross_entropy(part, classes, dim, reduction=reduction, **options)
    with CommDebugMode() as backward:
        loss.sum().backward()
    whole = x.clone().requires_grad_()
    right = st.cross_entropy(whole, target, dim, reduction=reduction, **options)
    right.sum().backward()
    close(loss, right)
    close(part.grad, whole.grad)
    assert part.grad.placements == part.placements
    return collectives(forward), collectives(backward)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "ignore_index": 3}], ids=str)
def test_cross_entropy(ranks, options):
    for reduction in ("none", "mean"):
        for forward, backward in ranks(losses, "classes", reduction, options):
            assert forward == {"allgather_": 1}
            assert backward == {}
        for forward, _ in ranks(losses, "rows", reduction, options):
            assert not any("gather" in kind for kind in forward)
    for dim in (0, 1):
        for forward, backward in ranks(losses, "rows", "none", {}, dim):
            assert forward == backward == {}
    for forward, _ in ranks(losses, "classes", "none", {}, 0):
        assert forward == {"allgather_": 1}


def masked_and_partial():
    mesh, x, where = mesh_of(4), numbers(ROWS, N), numbers(ROWS, N, seed=2) > -0.5
    where[2] = False
    for place in (Shard(0), Shard(1)):
        for mask in (where, where[:1], where[:, :1]):
            places = [place if mask.shape[place.dim] > 1 else Replicate()]
            y = st.softmax(
                distribute_tensor(x, mesh, [place]), where=distribute_tensor(mask, mesh, places), scale=0.5
            )
            close(y, st.softmax(x, where=mask, scale=0.5))
    part = torch.distributed.tensor.DTensor.from_local(x / 4, mesh, [Partial()])
    assert st.softmax(part).placements == (Replicate(),)
    close(st.softmax(part), st.softmax(x))


def test_masks_and_sums_that_are_not_added_up(ranks):
    ranks(masked_and_partial)


def on_two_dims():
    """Rows along one dim of the mesh, their elements along the other."""
    mesh, x = mesh_of(2, 2), numbers(ROWS, N)
    for places in ([Shard(0), Shard(1)], [Shard(1), Shard(0)], [Replicate(), Shard(1)]):
        part = distribute_tensor(x, mesh, places).requires_grad_()
        y = st.softmax(part)
        assert y.placements == tuple(places)
        close(y, st.softmax(x))
        number = st.logsumexp(part)
        close(number, st.logsumexp(x))
        assert number.placements == tuple(Replicate() if p == Shard(1) else p for p in places)
    st.softmax(distribute_tensor(x, mesh, [Shard(1), Shard(1)]))


def test_a_mesh_of_two_dims(ranks):
    for result in ranks(on_two_dims, errors=True):
        assert result.kind == "NotImplementedError"
        assert "2 divide its rows" in result.text


def mixed():
    x = distribute_tensor(numbers(ROWS, N), mesh_of(4), [Shard(1)])
    st.softmax(x, where=torch.ones(ROWS, N, dtype=torch.bool))


def test_tensors_beside_dtensors(ranks):
    assert all("distribute_tensor of it" in result.text for result in ranks(mixed, errors=True))


def scale_gradients():
    mesh, x, dy = mesh_of(4), numbers(ROWS, N), numbers(ROWS, N, seed=1)
    for name in BY_NUMBERS:
        for place in (Shard(1), Shard(0), Replicate()):
            for shape in ((), (1, 1), (ROWS, 1), (1, N)):
                whole = (numbers(*shape, seed=2) + 3).requires_grad_()
                scale = distribute_tensor(whole.detach(), mesh, [Replicate()]).requires_grad_()
                right = FORWARD[name](x, scale=whole)
                right.backward(dy if right.ndim == 2 else dy[:, 0])
                y = FORWARD[name](distribute_tensor(x, mesh, [place]), scale=scale)
                grad = dy if right.ndim == 2 else dy[:, 0]
                y.backward(distribute_tensor(grad.contiguous(), mesh, y.placements))
                found, size = scale.grad.full_tensor(), whole.grad.abs().amax().item()
                assert scale.grad.placements == (Replicate(),) or place == Shard(0)
                torch.testing.assert_close(found, whole.grad, rtol=0, atol=64 * 2.0**-23 * size)


def test_a_scale_has_its_whole_gradient(ranks):
    ranks(scale_gradients)


def strided():
    x = distribute_tensor(numbers(6, 8), mesh_of(2, 2), [Shard(0), Shard(1)]).view(48)
    assert not all(type(place) is Shard for place in x.placements)
    st.softmax(x)


def test_strided_shards_are_refused(ranks):
    for result in ranks(strided, errors=True):
        assert result.kind == "NotImplementedError"
        assert "2 divide its rows" in result.text


def by_main_package():
    mesh, x, v = mesh_of(4), numbers(ROWS, N), numbers(ROWS, N, seed=1)
    target, g = torch.tensor([0, 9, 5, 3, 2, 4]), numbers(ROWS, seed=3)
    place, whole = [Shard(1)], [Replicate()]
    part, dy = (distribute_tensor(a, mesh, place) for a in (x, v))
    classes, dg = (distribute_tensor(a, mesh, whole) for a in (target, g))

    def compare(found, right, places=place):
        assert found.placements == tuple(places)
        close(found, right)

    for name in ("softmax", "log_softmax"):
        with CommDebugMode() as counted:
            y = getattr(softgrad, name)(part)
        assert collectives(counted) == {"allgather_": 1}
        compare(y, getattr(softgrad, name)(x))
        function = getattr(softgrad, f"{name}_with_vjp")
        y, vjp = function(part)
        right, vjp_of_whole = function(x)
        compare(y, right)
        compare(vjp(dy), vjp_of_whole(v))
    out = torch.empty_like(part)
    assert softgrad.softmax(part, out=out) is out
    compare(out, softgrad.softmax(x))
    y, _ = softgrad.sink_softmax(part, 0.5)
    compare(y, softgrad.sink_softmax(x, 0.5)[0])
    for name in ("logsumexp", "entropy"):
        with CommDebugMode() as counted:
            compare(getattr(softgrad, name)(part), getattr(softgrad, name)(x), whole)
        assert collectives(counted) == {"allgather_": 1}
        function = getattr(softgrad, f"{name}_vjp")
        compare(function(part, dg), function(x, g))
    with CommDebugMode() as counted:
        loss = softgrad.cross_entropy(part, classes)
    assert collectives(counted) == {"allgather_": 1}
    compare(loss, softgrad.cross_entropy(x, target), whole)
    out = torch.empty_like(part)
    loss, vjp = softgrad.cross_entropy_with_vjp(part, classes, out=out)
    right, vjp_of_whole = softgrad.cross_entropy_with_vjp(x, target)
    close(loss, right)
    compare(vjp(), vjp_of_whole())
    compare(vjp(2.0), vjp_of_whole(2.0))
    compare(out, vjp_of_whole())


def test_the_main_package_keeps_placements(ranks):
    ranks(by_main_package)


def by_other_ways():
    mesh, x, v = mesh_of(4), numbers(ROWS, N), numbers(ROWS, N, seed=1)
    y, scale = st.softmax(x), numbers(ROWS, 1, seed=2)
    of_scale, offsets = (distribute_tensor(a, mesh, [Replicate()]) for a in (scale, torch.tensor([0, 4, N])))
    part, of_y, of_v = (distribute_tensor(a, mesh, [Shard(1)]) for a in (x, y, v))
    found = [
        (st.softmax_vjp(of_y, of_v, scale=of_scale), st.softmax_vjp(y, v, scale=scale)),
        *zip(
            st.softmax_double_backward(of_y, of_v, of_v, scale=of_scale),
            st.softmax_double_backward(y, v, v, scale=scale),
            strict=True,
        ),
        (st.segment_softmax(part, offsets, dim=1), st.segment_softmax(x, offsets.full_tensor(), dim=1)),
    ]
    for one, whole in found:
        assert one.placements == (Shard(1),)
        close(one, whole)


def test_scales_of_products_and_segments_keep_placements(ranks):
    ranks(by_other_ways)


def test_a_graph_may_be_the_first_to_see_a_dtensor():
    code = """
        import warnings
        import torch, torch.distributed as dist
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Shard, distribute_tensor
        import softgrad.torch as st

        warnings.simplefilter("ignore")
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        x = torch.arange(6.0).reshape(2, 3)
        for dim in (0, 1):
            part = distribute_tensor(x, init_device_mesh("cpu", (1,)), [Shard(dim)])
            y = torch.compile(st.softmax, fullgraph=True, backend="aot_eager")(part)
            assert y.placements == (Shard(dim),)
            torch.testing.assert_close(y.full_tensor(), torch.softmax(x, -1))
        dist.destroy_process_group()
        """
    processes.run(code)


def weights_and_groups():
    x = distribute_tensor(numbers(ROWS, N), mesh_of(4), [Shard(1)])
    st.cross_entropy(x, x)


def test_weights_of_divided_classes(ranks):
    for result in ranks(weights_and_groups, errors=True):
        assert "where the classes are divided it takes classes" in result.text


def registered():
    dtensors.register()
    known = torch.distributed.tensor.DTensor._op_dispatcher.sharding_propagator.op_strategy_funcs
    operators = [getattr(torch.ops.softgrad, name).default for name in dtensors.operators()]
    return len(operators), [str(op) for op in operators if op not in known]


def test_every_operator_is_registered(ranks):
    for count, missing in ranks(registered):
        assert missing == []
        assert count >= 23
