"""Threads, forks and caches: never an abort, never a deadlock, the same bits."""

import concurrent.futures
import os
import threading
import time
import weakref

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


# --- how the work is shared --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "tiles", "at_once"), [(1, 10, 1), (2, 10, 1), (3, 10, 4), (7, 100, 8), (9, 4, 1)]
)
def test_the_parts_make_up_the_whole(number_of_threads, number, tiles, at_once):
    number_of_threads(number)
    parts = []
    threads.share(lambda word, *part: parts.append((word, part)), ("as given",), tiles, at_once, 2**40)
    assert {word for word, _ in parts} == {"as given"}
    parts = sorted(part for _, part in parts)
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == tiles
    assert all(start % at_once == 0 and start < stop for start, stop in parts)
    assert len(parts) == max(1, min(number, tiles // at_once))


def test_small_arrays_stay_in_the_thread_that_calls(number_of_threads):
    number_of_threads(4)
    callers = set()
    threads.share(lambda *part: callers.add(threading.get_ident()), (), 1000, 1, threads.SHARE)
    assert callers == {threading.get_ident()}
    threads.share(lambda *part: callers.add(threading.get_ident()), (), 1000, 1, 100 * threads.SHARE)
    assert len(callers) > 1


@pytest.mark.parametrize(("units", "ways"), [(10, 1), (10, 2), (10, 3), (7, 7), (3, 8), (1, 4), (0, 2)])
def test_parts_of_a_range(units, ways):
    results = threads.parallel_for(lambda word, *part: (word, part), ("as given",), units, ways)
    assert {word for word, _ in results} == {"as given"}
    parts = [part for _, part in results]
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == units
    assert len(parts) == max(1, min(ways, units))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_done_at_the_same_time():
    """Each waits for the others."""
    meeting = threading.Barrier(4, timeout=60)
    results = threads.parallel_for(lambda *part: (meeting.wait(), threading.get_ident()), (), 4, 4)
    assert len({place for place, _ in results}) == len({ident for _, ident in results}) == 4
    assert results[0][1] == threading.get_ident()


def test_threads_for_so_many_elements(number_of_threads):
    number_of_threads(3)
    at = {0: 1, 2**18 - 1: 1, 2**18: 2, 3 * 2**17 - 1: 2, 3 * 2**17: 3, 2**40: 3}
    assert {elements: threads.threads_for(elements) for elements in at} == at
    with threads.at_most(2):
        assert threads.threads_for(2**40) == 2


def idents(*part):
    return threading.get_ident()


def test_a_call_that_finds_the_threads_taken_works_alone():
    """Of another thread, and of a kernel's own."""
    meeting = threading.Barrier(3, timeout=60)

    def waits(start, stop):
        meeting.wait()
        meeting.wait()
        return threads.parallel_for(idents, (), 2, 2)

    found = []
    other = threading.Thread(target=lambda: found.append(threads.parallel_for(waits, (), 2, 2)))
    other.start()
    meeting.wait()
    assert threads.parallel_for(idents, (), 2, 2) == [threading.get_ident()]
    meeting.wait()
    other.join(60)
    ((first, second),) = found
    assert len(first) == len(second) == 1
    assert first != second
    assert len(set(threads.parallel_for(idents, (), 2, 2))) == 2


def test_nothing_is_held_when_a_call_is_over():
    """Neither what a kernel was given nor what it gave, though the threads go on."""

    def gives(a, start, stop):
        return a[start:stop]

    def fails(a, start, stop):
        raise MemoryError

    for kernel in (gives, fails):
        a = np.zeros(10)
        gone = weakref.ref(a)
        try:
            threads.parallel_for(kernel, (a,), 10, 3)
        except MemoryError:
            assert kernel is fails
        del a
        assert gone() is None


def test_an_error_in_a_part_reaches_the_caller(number_of_threads):
    number_of_threads(2)

    def fails(start, stop):
        if start:
            raise MemoryError("in the other thread")

    with pytest.raises(MemoryError, match="other thread"):
        threads.share(fails, (), 10, 1, 2**40)


def late(ended, start, stop, first=None):
    """The part of the caller ends at once, by `first` if that is given, the others after a while."""
    if start == 0:
        if first is not None:
            first()
    else:
        time.sleep(0.2)
        ended.append(start)
    return start


def test_a_call_waits_for_all_its_threads(number_of_threads):
    ended = []
    assert threads.parallel_for(late, (ended,), 3, 3) == [0, 1, 2]
    assert sorted(ended) == [1, 2]


def test_a_call_that_fails_waits_for_all_its_threads():
    ended = []

    def fails(start, stop):
        late(ended, start, stop, first=lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        threads.parallel_for(fails, (), 3, 3)
    assert sorted(ended) == [1, 2]


INTERRUPTS = """
    import os, signal, sys, threading, time
    from softgrad import threads

    def idents(start, stop):
        return threading.get_ident()

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
"""


def test_an_interrupted_call_waits_for_all_its_threads():
    """An interrupt in the caller's own part, and two while it waits for the others."""
    processes.run(
        INTERRUPTS
        + """
    for where in "own part", "waiting":
        ended = []

        def works(start, stop):
            if start == 0:
                if where == "own part":
                    signal.raise_signal(signal.SIGINT)
            else:
                for _ in range(2):
                    time.sleep(0.2)
                    if where == "waiting" and start == 1:
                        interrupt()
                time.sleep(0.2)
                ended.append(start)

        try:
            threads.parallel_for(works, (), 3, 3)
        except KeyboardInterrupt:
            assert sorted(ended) == [1, 2], (where, ended)
        else:
            raise AssertionError("no interrupt")
        assert len(set(threads.parallel_for(idents, (), 3, 3))) == 3
    """
    )


def test_interrupts_at_every_point():
    """Wherever the interpreter looks for signals: nothing is at work when the call is over, and the next one
    has its threads again."""
    processes.run(
        INTERRUPTS
        + """
    import dis

    names = "RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"
    LOOKS = {dis.opmap.get(name) for name in names}
    at_work, left = [], 0

    def interrupted(frame, event, _):
        global left
        if frame.f_code.co_filename != threads.__file__:
            return None
        frame.f_trace_opcodes = True
        last = None

        def one(frame, event, _):
            global left
            nonlocal last
            if event == "opcode":
                if last in LOOKS:
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                last = frame.f_code.co_code[frame.f_lasti]
            return one

        return one

    def works(start, stop):
        at_work.append(start)
        time.sleep(0.002)
        at_work.remove(start)
        return start, stop

    threads.parallel_for(works, (), 3, 3)
    points = 0
    while True:
        points += 1
        left, results = points, None
        sys.settrace(interrupted)
        try:
            results = threads.parallel_for(works, (), 3, 3)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert not at_work, points
        assert results in (None, [(0, 1), (1, 2), (2, 3)]), results
        assert threads.parallel_for(lambda *part: part, (), 3, 3) == [(0, 1), (1, 2), (2, 3)], points
        if left > 0:
            break
    assert points > 20
    """
    )


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

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@forks
@pytest.mark.parametrize("layer", ["default", "omp", "workqueue"])
def test_fork_after_use(layer):
    processes.run(
        SETUP
        + """
    expected = bits()
    assert child_agrees(expected)
    assert bits() == expected
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
def test_fork_of_a_fork():
    processes.run(
        SETUP
        + """
    expected = bits()
    child = os.fork()
    if not child:
        os._exit(0 if bits() == expected and child_agrees(expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    """
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


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_threads_at_once_under_any_layer(layer):
    """Numba's workqueue aborts the process when two threads enter it: it must not be used."""
    processes.run(AT_ONCE, NUMBA_THREADING_LAYER=layer)


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


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="it is not said how much memory is in use")
def test_no_thread_can_be_started():
    """There is no room for its stack."""
    processes.run(
        INTERRUPTS
        + """
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
    threading.stack_size(2**30)
    assert threads.parallel_for(lambda *part: part, (), 10, 3) == [(0, 10)]
    threading.stack_size(0)
    assert len(set(threads.parallel_for(idents, (), 3, 3))) == 3
    """
    )


def test_use_after_the_end_of_the_interpreter():
    """Modules are taken down, and daemons stand still: who waited for one would wait for ever."""
    printed = processes.run(
        INTERRUPTS
        + """
    class Late:
        def __init__(self):
            self.call, self.finalizing, self.write = threads.parallel_for, sys.is_finalizing, sys.stdout.write

        def __del__(self):
            self.write(f"{self.finalizing()} {self.call(lambda *part: part, (), 3, 3)}")

    late = Late()
    late.itself = late  # until the end
    assert len(set(threads.parallel_for(idents, (), 3, 3))) == 3
    """
    )
    assert printed == "True [(0, 3)]"


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
