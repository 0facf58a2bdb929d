"""The public names and their signatures: what a user's program is written against."""

import importlib
import inspect
import typing

import pytest

import softgrad
from softgrad import functional

TWICE = "segment_ids=None, num_segments=None, axis=0, scale=1.0"
SEGMENTS = "segment_ids=None, num_segments=None, axis=0, where=None, scale=1.0, out=None"
FUNCTIONS = (
    """
cross_entropy(x, target, *, axis=-1, label_smoothing=0.0, ignore_index=None, reduction='mean', {WEIGHED})
cross_entropy_with_vjp(x, target, *, axis=-1, label_smoothing=0.0, ignore_index=None, {WITH_VJP})
entmax(x, alpha=1.5, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
entmax_alpha_vjp(y, dy, alpha=1.5, *, axis=-1, where=None)
entmax_double_backward(y, dy, v, alpha=1.5, *, axis=-1, scale=1.0)
entmax_jvp(y, dx, alpha=1.5, *, axis=-1, where=None, scale=1.0, out=None)
entmax_loss(x, target, alpha=1.5, *, axis=-1, where=None, ignore_index=None, reduction='mean')
entmax_loss_with_vjp(x, target, alpha=1.5, *, axis=-1, where=None, ignore_index=None, reduction='mean')
entmax_vjp(y, dy, alpha=1.5, *, axis=-1, where=None, scale=1.0, out=None)
entmax_with_vjp(x, alpha=1.5, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
entropy(x, *, axis=-1, where=None, scale=1.0, keepdims=False, out=None)
entropy_of_probabilities(p, *, axis=-1, where=None, keepdims=False)
entropy_of_probabilities_vjp(p, dy, *, axis=-1, where=None, out=None)
entropy_of_probabilities_with_vjp(p, *, axis=-1, where=None, keepdims=False)
entropy_vjp(x, dy, *, axis=-1, where=None, scale=1.0, out=None)
entropy_with_vjp(x, *, axis=-1, where=None, scale=1.0, keepdims=False, out=None)
js_divergence(x, *, {TARGET}, temperature=1.0, keepdims=False)
js_divergence_vjp(x, dy, *, {TARGET}, temperature=1.0)
js_divergence_with_vjp(x, *, {TARGET}, temperature=1.0, keepdims=False)
kl_divergence(x, *, {TARGET}, direction='forward', temperature=1.0, keepdims=False)
kl_divergence_vjp(x, dy, *, {TARGET}, direction='forward', temperature=1.0)
kl_divergence_with_vjp(x, *, {TARGET}, direction='forward', temperature=1.0, keepdims=False)
log_softmax(x, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
log_softmax_double_backward(y, dy, v, *, axis=-1, scale=1.0)
log_softmax_jvp(y, dx, *, axis=-1, where=None, scale=1.0, out=None)
log_softmax_vjp(y, dy, *, axis=-1, where=None, scale=1.0, out=None)
log_softmax_with_vjp(x, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
logsumexp(x, *, axis=-1, where=None, scale=1.0, keepdims=False, out=None)
logsumexp_vjp(x, dy, *, axis=-1, where=None, scale=1.0, out=None)
logsumexp_with_vjp(x, *, axis=-1, where=None, scale=1.0, keepdims=False, out=None)
segment_entropy(x, offsets=None, *, segment_ids=None, num_segments=None, axis=0, where=None, scale=1.0)
segment_entropy_vjp(x, dy, offsets=None, *, {SEGMENTS})
segment_log_softmax(x, offsets=None, *, {SEGMENTS})
segment_log_softmax_double_backward(y, dy, v, offsets=None, *, {TWICE})
segment_log_softmax_jvp(y, dx, offsets=None, *, {SEGMENTS})
segment_log_softmax_vjp(y, dy, offsets=None, *, {SEGMENTS})
segment_log_softmax_with_vjp(x, offsets=None, *, {SEGMENTS})
segment_logsumexp(x, offsets=None, *, segment_ids=None, num_segments=None, axis=0, where=None, scale=1.0)
segment_logsumexp_vjp(x, dy, offsets=None, *, {SEGMENTS})
segment_softmax(x, offsets=None, *, {SEGMENTS})
segment_softmax_double_backward(y, dy, v, offsets=None, *, {TWICE})
segment_softmax_jvp(y, dx, offsets=None, *, {SEGMENTS})
segment_softmax_vjp(y, dy, offsets=None, *, {SEGMENTS})
segment_softmax_with_vjp(x, offsets=None, *, {SEGMENTS})
sink_softmax(x, sink, *, axis=-1, where=None, scale=1.0)
sink_softmax_double_backward(y, y_sink, dy, dy_sink, v, v_sink, *, axis=-1, where=None, scale=1.0)
sink_softmax_jvp(y, y_sink, dx, dx_sink=None, *, axis=-1, where=None, scale=1.0)
sink_softmax_vjp(y, y_sink, dy, dy_sink=None, *, axis=-1, where=None, scale=1.0)
softmax(x, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
softmax_double_backward(y, dy, v, *, axis=-1, scale=1.0)
softmax_jvp(y, dx, *, axis=-1, where=None, scale=1.0, out=None)
softmax_scale_vjp(x, y, dy, *, axis=-1, where=None)
softmax_vjp(y, dy, *, axis=-1, where=None, scale=1.0, mean=None, return_mean=False, out=None)
softmax_vjp_hessian_diagonal(y, dy, h=None, *, axis=-1, where=None, scale=1.0, out=None)
softmax_with_vjp(x, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
sparsemax(x, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
sparsemax_double_backward(y, dy, v, *, axis=-1, scale=1.0)
sparsemax_jvp(y, dx, *, axis=-1, where=None, scale=1.0, out=None)
sparsemax_loss(x, target, *, axis=-1, where=None, ignore_index=None, reduction='mean')
sparsemax_loss_with_vjp(x, target, *, axis=-1, where=None, ignore_index=None, reduction='mean')
sparsemax_vjp(y, dy, *, axis=-1, where=None, scale=1.0, out=None)
sparsemax_with_vjp(x, *, axis=-1, where=None, scale=1.0, empty='zero', out=None)
""".replace("{SEGMENTS}", SEGMENTS)
    .replace("{TWICE}", TWICE)
    .replace("{TARGET}", "target_logits=None, target_probs=None, axis=-1, where=None")
    .replace("{WITH_VJP}", "reduction='mean', {WEIGHED}, {OUT}")
    .replace("{WEIGHED}", "sample_weight=None, weight=None, where=None, z_loss=0.0, dtype=None")
    .replace("{OUT}", "out=None")
    .strip()
    .splitlines()
)

OTHERS = (
    """
CrossEntropy(axis=-1, *, label_smoothing=0.0, ignore_index=None, reduction='mean', {MORE})
Entmax(alpha=1.5, axis=-1, *, where=None, scale=1.0, empty='zero')
EntmaxLoss(axis=-1, alpha=1.5, *, where=None, ignore_index=None, reduction='mean')
JSDivergence(axis=-1, *, where=None, temperature=1.0)
KLDivergence(axis=-1, direction='forward', *, where=None, temperature=1.0)
LogSoftmax(axis=-1, *, where=None, scale=1.0, empty='zero')
SegmentLogSoftmax(axis=0, *, scale=1.0)
SegmentSoftmax(axis=0, *, scale=1.0)
SinkSoftmax(axis=-1, *, where=None, scale=1.0)
Softmax(axis=-1, *, where=None, scale=1.0, empty='zero')
SoftmaxJacobian(y, *, axis=-1)
Sparsemax(axis=-1, *, where=None, scale=1.0, empty='zero')
SparsemaxLoss(axis=-1, *, where=None, ignore_index=None, reduction='mean')
explain(function, *arguments, **options)
get_num_threads()
set_num_threads(number)
softmax_jacobian(y, *, axis=-1)
""".replace("{MORE}", "weight=None, z_loss=0.0, dtype=None")
    .strip()
    .splitlines()
)

each_function = pytest.mark.parametrize("name", functional.__all__)


def signature(name):
    """The call without types."""
    full = inspect.signature(getattr(softgrad, name))
    parameters = [p.replace(annotation=p.empty) for p in full.parameters.values()]
    return f"{name}{full.replace(parameters=parameters, return_annotation=full.empty)}"


def test_functions():
    assert [signature(name) for name in sorted(functional.__all__)] == FUNCTIONS


def test_all():
    assert sorted(map(signature, softgrad.__all__)) == sorted(FUNCTIONS + OTHERS)
    assert all(getattr(functional, name) is getattr(softgrad, name) for name in functional.__all__)


@each_function
def test_types(name):
    """Every argument and the result have a type, and all of them can be resolved."""
    function = getattr(softgrad, name)
    assert {*typing.get_type_hints(function)} == {*inspect.signature(function).parameters, "return"}


@each_function
def test_docstring(name):
    """It has the sections of numpydoc in their order, an example, and a word on each argument."""
    text = inspect.getdoc(getattr(softgrad, name))
    sections = ["Parameters", "Returns", "Raises", "Examples"]
    places = [text.index(f"\n{section}\n{'-' * len(section)}\n") for section in sections]
    assert places == sorted(places)
    described = text[places[0] : places[1]].split("\n")[3:]
    names = [part for line in described if line[:1].strip() for part in line.partition(" : ")[0].split(", ")]
    assert names == list(inspect.signature(getattr(softgrad, name)).parameters)


def test_the_old_name_of_the_gpu_kernels():
    pytest.importorskip("triton")
    with pytest.warns(DeprecationWarning, match="softgrad.gpu now"):
        old = importlib.import_module("softgrad.kernels.gpu")
    assert old is softgrad.gpu
