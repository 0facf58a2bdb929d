"""Arrays of other libraries on a GPU, which change hands by DLPack.

Where there is no GPU the same code is run on arrays in the memory of the CPU, for which `checks.ON_DEVICE` is
opened: all but the streams is the same there.
"""

import inspect
import subprocess
import sys
from types import SimpleNamespace

import array_api_strict
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import softgrad  # noqa: E402
from softgrad import arrays, checks, dispatch, dlpack, functional  # noqa: E402

CPU = 1
LIBRARIES = {"array_api_strict": array_api_strict.asarray, "plain": lambda a: Plain(a)}
each_library = pytest.mark.parametrize("library", LIBRARIES)
each_function = pytest.mark.parametrize("name", functional.__all__)


class Plain:
    """An array of this module, which is the library that takes it back: as CuPy 13 has it, say."""

    def __init__(self, memory):
        self.memory = memory

    def __dlpack__(self, **options):
        return self.memory.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.memory.__dlpack_device__()


def from_dlpack(array):
    return Plain(np.from_dlpack(array))


class Elsewhere:
    """What is on another device, as it says."""

    def __init__(self, kind):
        self.kind = kind

    def __dlpack__(self, **options):
        raise AssertionError("nobody asked where it is")

    def __dlpack_device__(self):
        return self.kind, 0


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.setattr(checks, "ON_DEVICE", (CPU,))


def arguments(name):
    """What to call a public function with, as NumPy arrays; and what the vjp is that it may return."""
    rng = np.random.default_rng(0)
    x, dy, v = rng.normal(size=(3, 4, 6)).astype(np.float32)
    rows = dy[:, 0].copy()
    what = name.removesuffix("_with_vjp")
    if what in ("cross_entropy", "entmax_loss", "sparsemax_loss"):
        return (x, np.array([0, 5, 2, 2])), 0.5
    if what.startswith("entropy_of_probabilities"):
        p = softgrad.softmax(x)
        return (p, rows) if what.endswith("_vjp") else (p,), rows
    if what.startswith(("kl_divergence", "js_divergence")):
        return (x, rows) if what.endswith("_vjp") else (x,), rows
    if what == "softmax_vjp_hessian_diagonal":
        return (softgrad.softmax(x), dy), rows
    if what.startswith(("logsumexp", "entropy")):
        return (x, rows) if what.endswith("_vjp") else (x,), rows
    if what.startswith("segment_") and what.endswith(("logsumexp_vjp", "entropy_vjp")):
        return (x, dy[:2].copy(), np.array([0, 1, 4])), rows
    if name.startswith("sink_softmax"):
        y, y_sink = softgrad.sink_softmax(x, rows[..., None])
        given = {"sink_softmax": (x, rows[..., None])}.get(name, (y, y_sink, dy))
        return (*given, y_sink, v, y_sink) if name.endswith("double_backward") else given, rows
    if name == "softmax_scale_vjp":
        return (x, softgrad.softmax(x), dy), rows
    y = np.log(softgrad.softmax(x)) if name.startswith("log") else softgrad.softmax(x)
    given = {"vjp": (y, dy), "jvp": (y, dy), "backward": (y, dy, v)}.get(what.rpartition("_")[2], (x,))
    return (*given, np.array([0, 1, 4])) if name.startswith("segment") else given, dy


def check_function(name, to, back, device="cpu"):
    """It gives the bits that it gives for tensors, in arrays of the library."""
    given, dy = arguments(name)
    compared = {"target_logits": given[0][::-1].copy()} if "_divergence" in name else {}

    def results(to):
        *arrays, last = (to(a) if isinstance(a, np.ndarray) else a for a in (*given, dy))
        found = getattr(softgrad, name)(*arrays, **{key: to(a) for key, a in compared.items()})
        found = found if isinstance(found, tuple) else (found,)
        called = [f(last) if callable(f) else f for f in found]
        return [part for f in called for part in (f if isinstance(f, tuple) else (f,))]

    tensors = results(lambda a: torch.from_numpy(a).to(device))
    for found, expected in zip(results(to), tensors, strict=True):
        assert type(found) is type(to(given[0]))
        assert back(found).tobytes() == expected.cpu().numpy().tobytes()


@each_library
@each_function
def test_it_is_what_tensors_give(name, library, opened):
    check_function(name, LIBRARIES[library], np.from_dlpack)


def test_each_library_has_each_function():
    """That they take the arguments of `softgrad.functional` is seen where all of that is called."""
    for library in (arrays, dispatch.library(torch.zeros(1)), dispatch.library(jnp.zeros(1)), dlpack):
        assert all(callable(getattr(library, name)) for name in inspect.get_annotations(dispatch.Library))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_options(opened):
    x, where = numbers(3, 4), numbers(4, seed=1) > 0
    options = {"axis": (0, 1), "scale": 2.0, "empty": "nan"}
    found = softgrad.softmax(Plain(x), where=Plain(where), **options).memory
    np.testing.assert_array_equal(found, softgrad.softmax(x, where=where, **options))
    softgrad.softmax(Plain(x), where=None, out=None)
    assert softgrad.explain(softgrad.softmax, Plain(x)) == softgrad.explain(softgrad.softmax, x)


def test_nothing_is_copied():
    x = numbers(3, 4)
    caller = dlpack.Caller(Plain(x))
    tensor = caller.tensor(Plain(x))
    assert tensor.data_ptr() == x.ctypes.data
    assert caller.arrays(tensor, ()).memory.ctypes.data == x.ctypes.data
    on_cpu = jnp.asarray(x)
    assert dlpack.Caller(on_cpu).tensor(on_cpu).data_ptr() == on_cpu.unsafe_buffer_pointer()


def test_out_is_written_and_returned(opened):
    x, dy = Plain(numbers(3, 4)), Plain(numbers(3, 4, seed=1))
    out, strided = Plain(np.empty((3, 4), np.float32)), Plain(np.empty((4, 3), np.float32).T)
    y = softgrad.softmax(x)
    assert softgrad.softmax(x, out=strided) is strided
    np.testing.assert_array_equal(strided.memory, y.memory)
    dx = softgrad.softmax_vjp(y, dy)
    assert softgrad.softmax_vjp(y, dy, out=y) is y  # over an input
    np.testing.assert_array_equal(y.memory, dx.memory)
    same, vjp = softgrad.entmax_with_vjp(x, out=out)
    assert same is out
    assert vjp(dy, out=strided) is strided
    loss, vjp = softgrad.cross_entropy_with_vjp(x, Plain(np.array([0, 1, 2])), reduction="sum", out=x)
    assert vjp() is x
    assert type(loss) is Plain
    rows = Plain(np.empty(3, np.float32))
    assert softgrad.logsumexp(dy, out=rows) is rows


def test_the_stream_of_the_caller_waits_for_out_too(opened, monkeypatch):
    """It does when its library takes an array from PyTorch."""
    taken = []
    monkeypatch.setattr(sys.modules[__name__], "from_dlpack", lambda tensor: taken.append(tensor.data_ptr()))
    x, out = Plain(numbers(3, 4)), Plain(np.empty((3, 4), np.float32))
    softgrad.softmax(x, out=out)
    assert taken == [out.memory.ctypes.data]


def test_results_are_plain(opened):
    """Where a tensor that wants a gradient is among the arguments."""
    dy = torch.ones(2, 3, requires_grad=True)
    y = Plain(numbers(2, 3))
    found = softgrad.softmax_vjp(y, dy)
    np.testing.assert_array_equal(found.memory, softgrad.softmax_vjp(y.memory, np.ones_like(y.memory)))


# --- what is refused ---------------------------------------------------------------------------------


def test_on_the_cpu_arrays_are_those_of_numpy():
    x, y = array_api_strict.asarray(numbers(2, 3)), numbers(2, 3)
    with pytest.raises(TypeError, match=r"x is a \w+\.\w+, where NumPy .*: give numpy\.asarray\(x\)"):
        softgrad.softmax(x)
    with pytest.raises(TypeError, match=r"dy is a \w+\.\w+, where NumPy .*: give numpy\.asarray\(dy\)"):
        softgrad.softmax_vjp(y, x)


def test_all_arrays_are_on_one_device(opened):
    x = Plain(numbers(2, 3))
    for wrong in ({"where": Elsewhere(checks.CUDA)}, {"out": Elsewhere(checks.CUDA)}):
        with pytest.raises(
            TypeError, match=r"a test_dlpack\.Elsewhere was .* a test_dlpack\.Plain .* test_dlpack\.asarray"
        ):
            softgrad.softmax(x, **wrong)
    _, vjp = softgrad.softmax_with_vjp(x)
    with pytest.raises(TypeError, match="another device"):
        vjp(Elsewhere(checks.CUDA))


def test_the_errors_are_those_of_tensors_and_say_so(opened):
    x = Plain(numbers(2, 3))
    for wrong, kind, text in (
        ({"axis": 2}, np.exceptions.AxisError, "out of bounds"),
        ({"where": [True]}, TypeError, "where takes a tensor"),
        ({"out": Plain(numbers(3, 2))}, ValueError, "out has shape"),
    ):
        with pytest.raises(kind, match=text) as caught:
            softgrad.softmax(x, **wrong)
        assert caught.value.__notes__ == [
            "(Of a test_dlpack.Plain softgrad takes the tensor of the same memory.)"
        ]


def test_a_negative_stride():
    """`torch.from_dlpack` ends the process."""
    with pytest.raises(ValueError, match=r"negative stride .* numpy\.ascontiguousarray"):
        dlpack.Caller(np.ones(3)).tensor(np.ones(3)[::-1])


def test_what_may_not_be_written_to(opened):
    with pytest.raises(TypeError, match="out is a jaxlib.ArrayImpl, which may not be written to"):
        softgrad.softmax(Plain(numbers(2, 3)), out=jnp.ones((2, 3)))


def test_a_library_that_takes_nothing_back(opened):
    class Bare(Plain):
        def __array_namespace__(self):
            return SimpleNamespace(__name__="bare")

    with pytest.raises(TypeError, match="bare has no from_dlpack"):
        softgrad.softmax(Bare(numbers(2, 3)))


def test_managed_memory():
    with pytest.raises(TypeError, match="managed memory"):
        softgrad.softmax(Elsewhere(checks.MANAGED))


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch is built with CUDA")
def test_without_cuda_in_pytorch():
    with pytest.raises(ImportError, match="built without CUDA: pip install"):
        softgrad.softmax(Elsewhere(checks.CUDA))


def test_without_pytorch():
    """Importing softgrad, and calling it with NumPy arrays, loads none of this."""
    code = (
        "import sys, numpy, softgrad; softgrad.softmax(numpy.ones(3)); softgrad.softmax([1, 2])\n"
        "assert not {'torch', 'softgrad.dlpack'} & set(sys.modules)\n"
        "sys.modules['torch'] = None  # what import takes for a module that is not there\n"
        "class Array: __dlpack_device__ = lambda self: (2, 0)\n"
        "try: softgrad.softmax(Array())\n"
        "except ImportError as error: assert 'which could not be imported' in str(error), error\n"
        "else: assert False"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- on a GPU ----------------------------------------------------------------------------------------


@pytest.fixture
def cupy():
    cupy = pytest.importorskip("cupy")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return cupy


@pytest.mark.gpu
@each_function
def test_cupy(name, cupy):
    check_function(name, cupy.asarray, cupy.asnumpy, "cuda")


@pytest.mark.gpu
def test_cupy_out_and_memory(cupy):
    x = cupy.asarray(numbers(3, 4))
    assert dlpack.Caller(x).tensor(x).data_ptr() == x.data.ptr
    y = softgrad.softmax(x)
    out = cupy.empty((4, 3), cupy.float32).T
    assert softgrad.softmax(x, out=out) is out
    assert (out == y).all()
    with pytest.raises(TypeError, match="numpy.ndarray .* cupy.ndarray .* cupy.asarray"):
        softgrad.softmax(x, where=np.ones(4, bool))


@pytest.mark.gpu
@pytest.mark.parametrize("of_torch", [False, True])
@pytest.mark.parametrize("with_out", [False, True])
def test_cupy_streams(cupy, of_torch, with_out):
    """What is queued before the call on a stream of CuPy's is done before it, and what follows after."""
    start = cupy.asarray(numbers(2048, 2048))
    expected = softgrad.softmax(start) * 2
    cupy.cuda.Device().synchronize()
    stream = torch.cuda.Stream() if of_torch else torch.cuda.current_stream()
    with torch.cuda.stream(stream), cupy.cuda.Stream(non_blocking=True) as of_cupy:
        x, out = cupy.zeros_like(start), cupy.zeros_like(start)
        for _ in range(64):
            x *= 2  # keeps the stream busy
        x += start
        y = softgrad.softmax(x, out=out) if with_out else softgrad.softmax(x)
        found = y * 2
        x[...] = 0
        of_cupy.synchronize()
        assert (found == expected).all()
