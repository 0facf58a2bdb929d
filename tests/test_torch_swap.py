"""softgrad in the place of PyTorch's softmax: modules, a context, and a transformer trained with it."""

import contextlib
import copy

import pytest

torch = pytest.importorskip("torch")

from contract import off_by  # noqa: E402

import softgrad  # noqa: E402
import softgrad.torch as st  # noqa: E402


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_modules():
    x, where = numbers(3, 4), numbers(3, 4, seed=1) > -1
    assert torch.equal(st.Softmax(0)(x), st.softmax(x, 0))
    assert torch.equal(st.LogSoftmax(scale=2.0)(x, where), st.log_softmax(x, scale=2.0, where=where))
    assert torch.equal(st.Sparsemax(empty="nan")(x), st.sparsemax(x, empty="nan"))
    assert torch.equal(st.Entmax(1.3, 0)(x), st.entmax(x, 1.3, 0))
    shown = st.Softmax(1, scale=0.5, empty="nan", reuse_dy=True)
    assert repr(shown) == "Softmax(dim=1, scale=0.5, empty='nan', reuse_dy=True)"
    assert repr(st.Entmax(1.3, learn_alpha=True)) == "Entmax(alpha=1.3, learn_alpha=True, dim=-1)"


def test_alpha_is_learnt():
    """Towards the one that the weights were made with, and saved with the model."""
    x = numbers(200, 6)
    goal = st.entmax(x, 1.9)
    layer = st.Entmax(1.3, learn_alpha=True)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (layer(x) - goal).square().sum().backward()
        optimizer.step()
    assert abs(layer.alpha.item() - 1.9) < 0.02
    assert list(layer.state_dict()) == ["alpha"]


def test_replace_softmax():
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weigh = torch.nn.Softmax(dim=-1)
            self.older = torch.nn.Softmax()  # which finds its dim by itself

        def forward(self, x):
            return self.weigh(x @ x.mT) @ x

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Attention(), torch.nn.LogSoftmax(1)).eval()
    x = numbers(3, 4)
    expected = model(x)
    assert st.replace_softmax(model) is model
    kinds = [type(m) for m in model.modules() if "oftmax" in type(m).__name__]
    assert kinds == [st.Softmax, torch.nn.Softmax, st.LogSoftmax]
    assert not model[2].training
    assert off_by(model(x), expected) <= 2
    assert [s.kernel.removesuffix("_packed") for s in softgrad.explain(model, x)] == [
        "softmax",
        "log_softmax",
    ]
    assert isinstance(st.replace_softmax(torch.nn.Softmax(0), empty="nan"), st.Softmax)


def test_replace_softmax_in_every_place():
    shared, hooked = torch.nn.Softmax(-1), torch.nn.Softmax(-1)
    hooked.register_forward_hook(lambda module, given, result: 2 * result)
    inner = torch.nn.Sequential(shared, shared)
    model = torch.nn.ModuleList([shared, inner, inner, hooked, torch.nn.Softmax2d(), torch.nn.Softmin(-1)])
    st.replace_softmax(model)
    assert type(model[0]) is st.Softmax
    assert model[0] is inner[0] is inner[1]
    assert model[1] is model[2] is inner
    assert [type(m) for m in model[3:]] == [torch.nn.Softmax, torch.nn.Softmax2d, torch.nn.Softmin]
    assert st.replace_softmax(hooked) is hooked


def test_refused_when_it_is_made():
    for make in (
        lambda: st.Entmax(0.5),
        lambda: st.Entmax(torch.nan, learn_alpha=True),
        lambda: st.Softmax(empty="foo"),
        lambda: st.swapped(empty="foo"),
        lambda: st.replace_softmax(torch.nn.ReLU(), empty="foo"),
    ):
        with pytest.raises(ValueError, match=r"alpha=|empty='foo'"):
            make()


def test_swapped():
    x = numbers(2, 3)
    functional = torch.nn.functional
    calls = {
        "softmax": [
            lambda: torch.softmax(x, -1),
            lambda: torch.softmax(input=x, dim=0, dtype=torch.float64),
            lambda: x.softmax(dim=-1),
            lambda: torch.special.softmax(x, 1),
            lambda: functional.softmax(x, dim=-1, dtype=torch.float64),
            lambda: torch.nn.Softmax(1)(x),
        ],
        "log_softmax": [
            lambda: torch.log_softmax(x, -1),
            lambda: x.log_softmax(-1),
            lambda: torch.special.log_softmax(x, dim=-1),
            lambda: functional.log_softmax(x, -1),
        ],
    }
    for kernel, each in calls.items():
        for call in each:
            expected = call()
            with st.swapped():
                found = call()
                assert [s.kernel.removesuffix("_packed") for s in softgrad.explain(call)] == [kernel]
            assert found.dtype == expected.dtype
            assert off_by(found, expected, -1) <= 2
            assert softgrad.explain(call) == ()
    with st.swapped(empty="nan"):
        assert torch.softmax(torch.full((2,), -torch.inf), -1).isnan().all()
        assert torch.equal(torch.relu(x), x.clamp(min=0))


def transformer():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def trained(model, steps, context):
    """The losses of each step, and the gradients of the first."""
    tokens = torch.randint(61, (4, 17), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses, first = [], None
    for _ in range(steps):
        optimizer.zero_grad()
        with context() if context else contextlib.nullcontext():
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        first = first or [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        losses.append(loss.item())
    return losses, first


@pytest.mark.filterwarnings("ignore")
def test_a_transformer_of_hugging_face_trains_the_same():
    """50 steps from the same weights: the loss falls along the same curve."""
    model = transformer()
    other = copy.deepcopy(model)
    expected, gradients = trained(model, 50, contextlib.nullcontext)
    found, ours = trained(other, 50, st.swapped)
    assert expected[-1] < 0.5 * expected[0]
    assert max(abs(a - b) / a for a, b in zip(expected, found, strict=True)) < 1e-3
    for one, right in zip(ours, gradients, strict=True):
        assert off_by(one, right, None) <= 8
    with st.swapped():
        ran = softgrad.explain(lambda: other(input_ids=torch.arange(5)[None]))
    assert [s.kernel.removesuffix("_packed") for s in ran] == ["softmax", "softmax"]  # one for each layer


# --- where modes do not reach --------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("inside", [True, False])
def test_a_checkpoint_computes_again_with_softgrad(reentrant, inside):
    """A row of −inf is 0, and its gradient too; with torch.softmax in the second forward it would be NaN."""
    x = torch.tensor([[-torch.inf, -torch.inf], [1.0, 2.0]], requires_grad=True)
    with st.swapped():
        y = torch.utils.checkpoint.checkpoint(
            lambda x: torch.softmax(x, -1).sin(), x, use_reentrant=reentrant
        )
        if inside:
            y.sum().backward()
    if not inside:
        y.sum().backward()
    (expected,) = torch.autograd.grad(st.softmax(x).sin().sum(), x)
    assert torch.equal(x.grad, expected)
    with contextlib.suppress(RuntimeError):
        y.sum().backward()
    (theirs,) = torch.autograd.grad(
        torch.utils.checkpoint.checkpoint(lambda x: torch.softmax(x, -1).sin(), x, use_reentrant=False).sum(),
        x,
    )
    assert theirs[0].isnan().all()  # outside of the block nothing is changed


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_swapped_and_torch_compile():
    """Within what is compiled, and around it."""

    def within(x):
        with st.swapped():
            return torch.softmax(x, -1)

    x = torch.tensor([[-torch.inf, -torch.inf], [1.0, 2.0]])
    torch._dynamo.reset()
    assert torch.equal(torch.compile(within, backend="aot_eager", fullgraph=True)(x), st.softmax(x))
    around = torch.compile(lambda x: torch.softmax(x, -1), backend="aot_eager", fullgraph=True)
    with st.swapped():
        assert torch.equal(around(x), st.softmax(x))
    assert around(x)[0].isnan().all()


@pytest.mark.filterwarnings("ignore")
def test_the_attention_of_transformers():
    """With gradient checkpoints, in another thread, and with padding that masks rows whole."""
    import threading

    st.register_attention()
    model = transformer()
    expected, gradients = trained(model.train(), 1, None)
    other = copy.deepcopy(model)
    model = transformer()
    model.set_attn_implementation("softgrad")
    model.gradient_checkpointing_enable()
    results = []
    thread = threading.Thread(target=lambda: results.append(trained(model, 1, None)))
    thread.start()
    thread.join()
    ((found, ours),) = results
    assert abs(found[0] - expected[0]) <= 8 * torch.finfo(torch.float32).eps * expected[0]
    for one, right in zip(ours, gradients, strict=True):
        assert off_by(one, right, None) <= 8
    tokens = torch.arange(10).reshape(2, 5)
    ran = softgrad.explain(lambda: model.eval()(input_ids=tokens))
    assert [s.kernel.removesuffix("_packed") for s in ran] == ["softmax", "softmax"]
    padding = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    logits = model(input_ids=tokens, attention_mask=padding).logits
    logits[padding.bool()].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert other.config._attn_implementation == "eager"


def test_attention_with_sinks():
    """gpt-oss beside the eager attention of transformers, with padding and a sliding window."""
    from transformers import GptOssConfig, GptOssModel

    st.register_attention()
    sizes = {"hidden_size": 16, "intermediate_size": 8, "head_dim": 4, "vocab_size": 20, "sliding_window": 3}
    heads = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "num_local_experts": 2,
    }
    torch.manual_seed(0)
    model = GptOssModel(GptOssConfig(**sizes, **heads, num_experts_per_tok=1, attn_implementation="eager"))
    for layer in model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks)
    tokens = torch.arange(12).reshape(2, 6)
    padding = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    results = []
    for name in ("eager", "softgrad"):
        model.set_attn_implementation(name)
        model.zero_grad()
        states = model(input_ids=tokens, attention_mask=padding).last_hidden_state[padding.bool()]
        (states * torch.linspace(-1, 1, states.numel()).reshape(states.shape)).sum().backward()
        results.append([states.detach(), *[layer.self_attn.sinks.grad.clone() for layer in model.layers]])
    ran = softgrad.explain(lambda: model(input_ids=tokens))
    assert [s.kernel for s in ran] == ["sink_softmax"] * 2
    for found, expected in zip(results[1], results[0], strict=True):
        assert off_by(found, expected, None) <= 16


def test_attention_of_grouped_heads():
    from softgrad.torch.patch import attention

    q = numbers(1, 2, 3, 4)
    grouped, _ = attention(torch.nn.Identity(), q, q[:, :1], q[:, :1], None, softcap=5.0)
    assert grouped.shape == (1, 3, 2, 4)


def test_a_scale_moves_with_its_module():
    layer = st.Softmax(scale=torch.tensor(2.0))
    assert list(layer.state_dict()) == ["scale"]
    assert layer.double().scale.dtype == torch.float64
    assert repr(layer) == "Softmax(dim=-1, scale=2.0)"
    assert list(dict(st.Softmax(scale=torch.nn.Parameter(torch.tensor(2.0))).named_parameters())) == ["scale"]
    assert not st.Softmax(scale=2.0).state_dict()


def test_the_graph_of_torch_fx():
    """Of a model with the functions and the modules, whichever name they were imported by."""
    from softgrad.torch import log_softmax

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weigh = st.Softmax(-1, scale=0.5)
            self.sparse = st.Entmax(1.3)

        def forward(self, x, where):
            y = self.weigh(x, where) + self.sparse(x) + st.sparsemax(x, dim=-1)
            loss = st.cross_entropy(x, x.argmax(-1)) + st.entropy(x, -1, True) + st.logsumexp(x, 0)
            return y + log_softmax(x) + loss + st.segment_softmax(x, torch.tensor([0, 1, 3]))

    x, where = numbers(3, 3), numbers(3, 3, seed=1) > 0
    model = Model()
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x, where), model(x, where))
    names = {node.target.__name__ for node in traced.graph.nodes if node.op == "call_function"}
    assert {"softmax", "entmax", "log_softmax", "cross_entropy"} <= names
    with pytest.raises(TypeError, match="give torch.as_tensor"):
        st.softmax([1.0])
