"""The threads of `cpu/workers.py`, with functions of Python in place of the compiled ones."""

import ctypes
import os
import threading
import time

import numpy as np
import processes
import pytest

import softgrad
from softgrad.cpu import workers

softgrad.softmax(np.zeros((2, 2)))  # or the interrupts would meet the import of Numba
FUNCTION = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)


def run(function, units, ways, given=(0,)):
    """``function(given, memory, start, stop)`` for parts of range(units)."""
    made = FUNCTION(function)
    workers.run(ctypes.cast(made, ctypes.c_void_p).value, given, 8, units, ways)


@pytest.mark.parametrize(("units", "ways"), [(10, 1), (10, 2), (10, 3), (7, 7), (8, 3), (4, 1)])
def test_parts_of_a_range(units, ways):
    seen = []
    numbers = ctypes.POINTER(ctypes.c_int64)

    def tell(given, *rest):
        seen.append((tuple(ctypes.cast(given, numbers)[:3]), *rest))

    run(tell, units, ways, given=(1, 2, 3))
    assert {of[0] for of in seen} == {(1, 2, 3)}
    assert len({of[1] for of in seen}) == ways  # each has scratch memory of its own
    parts = sorted(of[2:] for of in seen)
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert (len(parts), parts[-1][1]) == (ways, units)
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_done_at_the_same_time():
    """Each waits for the others."""
    meeting = threading.Barrier(4, timeout=60)
    places, threads = [], set()

    def meet(*given):
        places.append(meeting.wait())
        threads.add(threading.get_ident())

    run(meet, 4, 4)
    assert sorted(places) == [0, 1, 2, 3]
    assert len(threads) == 4
    assert threading.get_ident() in threads


@pytest.mark.skipif(workers.processor() is None, reason="threads can't be sent to other processors here")
def test_a_thread_that_woke_may_run_wherever_the_others_may():
    """It is woken on another processor than the caller's, and then free to go."""
    allowed, whole = os.sched_getaffinity(0), []
    for _ in range(6):
        seen = []
        run(lambda *given, seen=seen: seen.append(os.sched_getaffinity(0)), 2, 2)
        whole.append(all(each == allowed for each in seen))
        time.sleep(0.01)  # until it sleeps
    assert workers.team.workers[0].allowed == allowed
    assert any(whole[1:])  # in one of them it may have been about to sleep


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_threads_that_look_and_threads_that_sleep(pause):
    """After a while they wait for a lock."""
    idle = threading.Event()
    for _ in range(20):
        threads = set()
        meeting = threading.Barrier(2, timeout=60)
        run(lambda *given: (meeting.wait(), threads.add(threading.get_ident())), 2, 2)  # noqa: B023
        assert len(threads) == 2
        idle.wait(pause)


def test_a_call_that_finds_the_threads_taken_works_alone():
    meeting, found = threading.Barrier(3, timeout=60), []

    def waits(*given):
        meeting.wait()
        meeting.wait()

    other = threading.Thread(target=lambda: run(waits, 2, 2))
    other.start()
    meeting.wait()
    run(lambda *given: found.append((threading.get_ident(), given[2:])), 2, 2)
    assert found == [(threading.get_ident(), (0, 2))]
    meeting.wait()
    other.join(60)
    found.clear()
    run(lambda *given: found.append(given[2:]), 2, 2)
    assert sorted(found) == [(0, 1), (1, 2)]


SETUP = """
    import ctypes, sys, threading, time
    import numpy as np
    import softgrad
    from softgrad.cpu import workers

    softgrad.softmax(np.zeros((2, 2)))
    FUNCTION = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)
    kept = []

    def run(function, units, ways):
        compiled = FUNCTION(function)
        kept.append(compiled)
        workers.run(ctypes.cast(compiled, ctypes.c_void_p).value, (0,), 8, units, ways)

    def parts(units, ways):
        found = []
        run(lambda *given: found.append(given[2:]), units, ways)
        return sorted(found)
"""


def test_interrupts_at_every_point():
    """Wherever the interpreter looks for signals: nothing is at work when the call is over, and the next one
    has its threads again."""
    processes.run(
        SETUP
        + """
    import dis

    names = "RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"
    LOOKS = {dis.opmap.get(name) for name in names}
    at_work, left = [], 0

    def interrupted(frame, event, _):
        if frame.f_code.co_filename != workers.__file__:
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

    def works(*given):
        at_work.append(given[2])
        time.sleep(0.002)
        at_work.remove(given[2])

    run(works, 3, 3)
    points = 0
    while True:
        points += 1
        left = points
        if points % 2:
            time.sleep(0.01)  # now they sleep
        sys.settrace(interrupted)
        try:
            run(works, 3, 3)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert not at_work, points
        found = parts(3, 3)
        assert found == [(0, 1), (1, 2), (2, 3)], (points, found)
        if left > 0:
            break
    assert points > 20
    """
    )


def test_no_thread_can_be_started():
    """There is no room for its stack."""
    pytest.importorskip("resource")
    processes.run(
        SETUP
        + """
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
    threading.stack_size(2**30)
    assert parts(10, 3) == [(0, 10)]
    threading.stack_size(0)
    assert len(parts(3, 3)) == 3
    """
    )
