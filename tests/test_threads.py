"""Threads, forks and caches: never an abort, never a deadlock, the same bits."""

import concurrent.futures
import os

import numpy as np
import processes
import pytest

import softgrad
from softgrad import threads
from softgrad.testing import cases

FLOAT32 = np.dtype(np.float32)


@pytest.fixture
def number_of_threads():
    """`set_num_threads`; what was set before is set again at the end."""
    before = softgrad.get_num_threads()
    yield softgrad.set_num_threads
    softgrad.set_num_threads(before)


# --- how many -------------------------------------------------------------------------------------


def test_threads_for_so_many_elements(number_of_threads):
    number_of_threads(3)
    at = {0: 1, 2**18 - 1: 1, 2**18: 2, 3 * 2**17 - 1: 2, 3 * 2**17: 3, 2**40: 3}
    assert {elements: threads.threads_for(elements) for elements in at} == at
    with threads.at_most(2):
        assert threads.threads_for(2**40) == 2


# --- the same bits -----------------------------------------------------------------------------------

SHAPES = [
    # shape, axis, step of the last axis
    ((1000, 1000), -1, 1),
    ((1000, 1000), 0, 1),
    ((30, 40000), 0, 1),
    ((8, 128256), -1, 1),
    ((200000, 8), -1, 1),
    ((100, 100, 100), 1, 1),
    ((1000, 2000), -1, 2),
    ((2000, 1000), None, 1),
]


@pytest.mark.parametrize(("shape", "axis", "step"), SHAPES)
@pytest.mark.parametrize("dtype", [FLOAT32])
def test_the_same_bits_for_any_number_of_threads(number_of_threads, dtype, shape, axis, step):
    x, dy = (cases.numbers(int(np.prod(shape)), key).reshape(shape).astype(dtype) for key in ("x", "dy"))
    x, dy = x[..., ::step], dy[..., ::step]
    where = np.broadcast_to(np.arange(x.shape[-1]) % 5 > 0, x.shape)
    found = []
    for number in (1, 2, 3, 7):
        number_of_threads(number)
        y = softgrad.softmax(x, axis=axis)
        results = [y, softgrad.softmax_vjp(y, dy, axis=axis)]
        if step == 1:
            results += softgrad.softmax_double_backward(y, dy, x, axis=axis)
            results += [softgrad.softmax(x, axis=axis, where=where)]
        found.append([result.tobytes() for result in results])
    assert found[1:] == found[:1] * 3


def test_an_empty_row_is_found_by_any_thread(number_of_threads):
    for number in (1, 3):
        number_of_threads(number)
        for row in (0, 999):
            x = np.zeros((1000, 1000), np.float32)
            x[row] = -np.inf
            with pytest.raises(ValueError, match="empty"):
                softgrad.softmax(x, empty="raise")


def test_many_threads_may_call_at_once():
    x, dy = (cases.numbers(10**6, key).reshape(1000, 1000).astype(np.float32) for key in ("x", "dy"))
    short = x[:50, :50].copy()
    y = softgrad.softmax(x)
    expected = [y.tobytes(), softgrad.softmax_vjp(y, dy, axis=0).tobytes(), softgrad.softmax(short).tobytes()]

    def calls(_):
        y = softgrad.softmax(x)
        return [y.tobytes(), softgrad.softmax_vjp(y, dy, axis=0).tobytes(), softgrad.softmax(short).tobytes()]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(found == expected for found in pool.map(calls, range(64), timeout=100))


# --- set_num_threads and SOFTGRAD_NUM_THREADS --------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1, np.int64(0)])
def test_a_number_of_threads_below_1(number_of_threads, number):
    with pytest.raises(ValueError, match="1"):
        number_of_threads(number)


@pytest.mark.parametrize("number", [1.0, "2", None, True, [2]])
def test_a_number_of_threads_that_is_not_whole(number_of_threads, number):
    with pytest.raises(TypeError, match="whole number"):
        number_of_threads(number)


def test_a_number_of_threads_of_numpy(number_of_threads):
    number_of_threads(np.int8(3))
    assert softgrad.get_num_threads() == 3
    assert type(softgrad.get_num_threads()) is int


REPORT = """
    import softgrad
    try:
        print(softgrad.get_num_threads())
    except ValueError as error:
        print(error)
"""


@pytest.mark.parametrize("text", ["1", "3", "64"])
def test_the_environment_sets_the_number_of_threads(text):
    assert processes.run(REPORT, SOFTGRAD_NUM_THREADS=text).strip() == text


@pytest.mark.parametrize("text", ["0", "-2", "1.5", "many", " "])
def test_an_environment_that_is_wrong_says_so(text):
    message = processes.run(REPORT, SOFTGRAD_NUM_THREADS=text)
    assert "SOFTGRAD_NUM_THREADS" in message
    assert repr(text) in message


def test_without_it_there_is_a_thread_for_each_processor():
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert processes.run(REPORT, SOFTGRAD_NUM_THREADS="").strip() == str(expected)


# --- what is loaded ----------------------------------------------------------------------------------

LOADED = """
    import sys
    import softgrad
    softgrad.get_num_threads()
    try:
        softgrad.softmax([True])
    except TypeError:
        pass
    names = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
    print(*sorted(name for name in names if not name.startswith("_")))
"""


def test_importing_loads_numpy_and_ml_dtypes_alone():
    """Also a call that is refused; Numba comes with the first that is not."""
    loaded = set(processes.run(LOADED).split())
    assert {"softgrad", "numpy"} <= loaded
    # what starts with every process of this environment, such as an editable install's finder
    at_start = set(
        processes.run(LOADED.replace("softgrad.", "len or softgrad.").replace("import softgrad", "")).split()
    )
    assert loaded - at_start <= {"softgrad", "numpy", "ml_dtypes"}


# --- fork --------------------------------------------------------------------------------------------

SETUP = """
    import os, sys, threading, time
    import numpy as np
    import softgrad

    softgrad.set_num_threads(2)
    x = np.random.default_rng(1).normal(size=(1500, 1000)).astype(np.float32)

    def bits():
        y = softgrad.softmax(x)
        return softgrad.softmax_vjp(y, x).tobytes()

    def child_agrees(expected):
        child = os.fork()
        if not child:
            os._exit(0 if bits() == expected else 1)
        return os.waitpid(child, 0)[1] == 0
"""

AT_ONCE = (
    SETUP
    + """
    found = []
    callers = [threading.Thread(target=lambda: found.append(bits())) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 8 and len(set(found)) == 1
    """
)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@forks
@pytest.mark.parametrize("layer", ["default", "omp", "workqueue"])
def test_under_any_layer(layer):
    """Several threads at once, then a fork, and a fork of a fork.  Numba's workqueue aborts the process when
    two threads enter it: it must not be used."""
    processes.run(
        AT_ONCE
        + """
    expected = found[0]
    assert child_agrees(expected)
    assert bits() == expected
    child = os.fork()
    if not child:
        os._exit(0 if bits() == expected and child_agrees(expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    """,
        NUMBA_THREADING_LAYER=layer,
    )


@forks
def test_fork_while_other_threads_are_at_it():
    processes.run(
        SETUP
        + """
    expected = bits()
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            assert bits() == expected

    others = [threading.Thread(target=busy) for _ in range(4)]
    for other in others:
        other.start()
    for _ in range(20):
        assert child_agrees(expected)
    stop.set()
    for other in others:
        other.join()
    """
    )


@forks
@pytest.mark.parametrize("module", ["numba", "softgrad.cpu.kernels"])
def test_fork_during_the_first_call_of_another_thread(tmp_path, module):
    """While Numba is being loaded, or a kernel compiled: the child does not wait for a lock whose holder it
    does not have."""
    processes.run(
        SETUP
        + """
    first = threading.Thread(target=bits)
    first.start()
    while sys.argv[1] not in sys.modules:
        assert first.is_alive()
        time.sleep(0.001)
    child = os.fork()
    if not child:
        bits()
        os._exit(0)
    first.join()
    assert os.waitpid(child, 0)[1] == 0
    """,
        module,
        NUMBA_CACHE_DIR=str(tmp_path),
    )


@forks
def test_fork_while_another_thread_is_in_llvm():
    """Where it frees a module, for instance, which may be at any time."""
    processes.run(
        SETUP
        + """
    from llvmlite.binding import ffi

    entered = threading.Event()

    def free():
        with ffi.lib._lock:
            entered.set()
            time.sleep(0.2)

    other = threading.Thread(target=free)
    other.start()
    entered.wait()
    child = os.fork()
    if not child:
        bits()
        os._exit(0)
    other.join()
    assert os.waitpid(child, 0)[1] == 0
    """,
        timeout=60,
    )


@forks
def test_a_pool_of_forked_processes():
    processes.run(
        SETUP
        + """
    import multiprocessing

    def work(_):
        return bits()

    expected = bits()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, range(6)) == [expected] * 6
    """
    )


@forks
def test_the_data_loader_of_torch():
    pytest.importorskip("torch")
    processes.run(
        SETUP
        + """
    import torch

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return torch.frombuffer(bytearray(bits()), dtype=torch.float32)

    expected = torch.frombuffer(bytearray(bits()), dtype=torch.float32)
    loader = torch.utils.data.DataLoader
    for batch in loader(Rows(), batch_size=2, num_workers=2, multiprocessing_context="fork"):
        assert (batch == expected).all()
    """
    )


# --- threading layers, caches, the end ---------------------------------------------------------------


def test_threads_that_all_want_the_same_kernel_first(tmp_path):
    processes.run(AT_ONCE, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize("place", ["below a file", "in /proc"])
def test_a_cache_folder_that_cannot_be_written(tmp_path, place):
    """The tests may run as root, for whom no folder is read-only; but nobody makes one of these."""
    file = tmp_path / "file"
    file.touch()
    folder = file / "cache" if place == "below a file" else "/proc/softgrad"
    code = """
        import numpy as np
        import softgrad
        assert (softgrad.softmax(np.zeros((2, 2), np.float32)) == 0.5).all()
    """
    processes.run(code, NUMBA_CACHE_DIR=str(folder))


def test_a_cache_that_was_damaged(tmp_path):
    """A file cut short, as a full disk or a killed process leaves it."""
    code = """
        import numpy as np
        import softgrad
        assert (softgrad.softmax(np.zeros((2, 2), np.float32)) == 0.5).all()
    """
    processes.run(code, NUMBA_CACHE_DIR=str(tmp_path))
    kept = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert kept  # it was written to where it should be
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    processes.run(code, NUMBA_CACHE_DIR=str(tmp_path))


def test_use_at_the_end_of_the_interpreter():
    """The pool starts no more threads then: the calling one does it all."""
    printed = processes.run(
        SETUP
        + """
    import atexit

    expected = bits()
    atexit.register(lambda: print(bits() == expected))
    """
    )
    assert printed.split() == ["True"]


def test_first_use_at_the_end_of_the_interpreter():
    printed = processes.run(SETUP + "    import atexit\n    atexit.register(lambda: print(len(bits())))\n")
    assert printed.split() == [str(4 * 1500 * 1000)]


def test_a_thread_that_outlives_the_main_one():
    printed = processes.run(
        SETUP
        + """
    expected = bits()

    def late():
        time.sleep(0.3)
        print(all(bits() == expected for _ in range(20)))

    threading.Thread(target=late).start()
    """
    )
    assert printed.split() == ["True"]


def test_a_daemon_at_work_does_not_hold_up_the_end():
    processes.run(
        SETUP
        + """
    bits()

    def forever():
        while True:
            bits()

    for _ in range(3):
        threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.3)
    """
    )
