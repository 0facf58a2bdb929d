"""The memory contract: with `out` nothing is allocated that grows with the array; without it, the result.

tracemalloc sees what NumPy allocates; what the kernels do is seen by the size of a process.
"""

import gc
import sys
import tracemalloc
import weakref

import numpy as np
import processes
import pytest
from contract import peak

import softgrad
from softgrad import Softmax, softmax, softmax_double_backward, softmax_vjp, softmax_with_vjp

# What a thread may use to work in, whatever the size of the array: less than a mask of it would take.
SMALL = 4_000_000
SHAPE = 2048, 2048


@pytest.fixture(autouse=True)
def one_thread():
    before = softgrad.get_num_threads()
    softgrad.set_num_threads(1)
    yield
    softgrad.set_num_threads(before)


def array():
    return np.full(SHAPE, 0.001, np.float32)


# name: a view of 16 MB
VIEWS = {
    "as it is": lambda a: a,
    "Fortran order": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed": lambda a: a[::-1, ::-1],
    "short rows": lambda a: a.reshape(-1, 8),
    "in three axes": lambda a: a.reshape(64, -1, 64),
    "broadcast": lambda a: np.broadcast_to(a[0], a.shape),
}
each_axis = pytest.mark.parametrize("axis", [-1, 0, None])
# all axes of what does not lie in order are one row, element by element: slow, and nothing new
each_view_and_axis = pytest.mark.parametrize(
    ("view", "axis"),
    [
        pytest.param(view, axis, id=f"{name}, {axis}")
        for name, view in VIEWS.items()
        for axis in (-1, 0, None)
        if axis is not None or name in ("as it is", "short rows")
    ],
)


@each_view_and_axis
def test_the_result_is_allocated_and_with_out_nothing(view, axis):
    x = view(array())
    for function, given in ((softmax, [x]), (softmax_vjp, [x, x])):
        most, result = peak(function, *given, axis=axis)
        assert result.nbytes <= most < result.nbytes + SMALL
        assert peak(function, *given, axis=axis, out=np.empty(x.shape, x.dtype))[0] < SMALL


@pytest.mark.parametrize("shape", [SHAPE, (1, SHAPE[1]), (SHAPE[0], 1)])
@pytest.mark.parametrize("axis", [-1, 0])
def test_under_a_mask(axis, shape):
    x, out, where = array(), np.empty(SHAPE, np.float32), np.full(shape, True)
    assert peak(softmax, x, axis=axis, where=where, out=out)[0] < SMALL
    assert peak(softmax_vjp, x, x, axis=axis, where=where, out=out)[0] < SMALL


def test_in_place_over_a_strided_view():
    view = np.repeat(array(), 2, axis=1)[:, ::2]
    assert peak(softmax, view, out=view)[0] < SMALL
    assert peak(softmax_vjp, view, view, out=view)[0] < SMALL


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
@pytest.mark.parametrize("axis", [-1, 0])
def test_whole_numbers_are_converted_in_the_result(dtype, axis):
    x = np.ones((2048, 1024), dtype)
    most, result = peak(softmax, x, axis=axis)
    assert result.nbytes <= most < result.nbytes + SMALL
    assert peak(softmax, x, axis=axis, out=result)[0] < SMALL


def test_looking_for_empty_rows():
    x, out = array(), np.empty(SHAPE, np.float32)
    assert peak(softmax, x, empty="raise", out=out)[0] < SMALL


def test_the_double_backward_allocates_its_two_results():
    y = array()
    most, (grad_x, grad_dy) = peak(softmax_double_backward, y, y, y)
    assert most < grad_x.nbytes + grad_dy.nbytes + SMALL


def test_softmax_with_vjp_keeps_y_alone():
    x = array()
    y, vjp = softmax_with_vjp(x)
    kept = weakref.ref(x)
    del x
    assert kept() is None  # x is not needed
    references = sys.getrefcount(y)
    del vjp
    assert sys.getrefcount(y) == references - 1  # y itself was, not a copy


def test_the_layer_keeps_y_alone():
    layer = Softmax()
    layer.forward(array())
    gc.collect()
    tracemalloc.start()
    layer.forward(array())  # what the first one kept is let go
    x = layer.y
    now, _ = tracemalloc.get_traced_memory()
    layer.backward(x)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert x.nbytes <= now < x.nbytes + SMALL
    assert abs(after - now) < SMALL


SIZES = """
    import resource
    import numpy as np
    from softgrad import set_num_threads, softmax, softmax_vjp

    set_num_threads(2)
    MB = 2**20

    def size():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def calls(a, **options):
        # with axis=None all of it is one row, of which there may be three in scratch memory
        for axis in (-1, 0) if a.flags.c_contiguous else (-1,):
            softmax(a, axis=axis, out=a, **options)
            softmax_vjp(a, a, axis=axis, out=a, **options)

    def layouts(room):
        yield room, {}
        yield room[:, ::2], {}
        yield room.T, {}
        yield room.reshape(-1, 16), {}
        yield room, {"where": np.broadcast_to(np.True_, room.shape)}

    def everything(room):
        for a, options in layouts(room):
            calls(a, **options)
        softmax(room, empty="raise", out=room)

    everything(np.ones((4096, 512), np.float32))  # compiles, and starts the threads
    room = np.empty((2000, 12800), np.float32)  # 98 MB
    room.fill(1)
    before = size()
    everything(room)
    grown = size() - before
    assert grown < 16 * MB, f"grew by {grown / MB:.0f} MB with out"

    result = softmax(room)
    grown = size() - before
    assert grown < room.nbytes + 16 * MB, f"{grown / MB:.0f} MB for a result of {room.nbytes / MB:.0f}"
    del result
    result = softmax_vjp(room, room, axis=0)
    grown = size() - before
    assert grown < room.nbytes + 16 * MB, f"{grown / MB:.0f} MB for a result of {room.nbytes / MB:.0f}"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts other units elsewhere")
def test_the_size_of_a_process_that_works_on_100_mb():
    processes.run(SIZES, timeout=300)
