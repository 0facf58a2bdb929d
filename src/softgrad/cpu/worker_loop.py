"""What a thread does for `workers.py` without the GIL: it looks for work, does it, and looks again.

A *box* holds the work: its state, the address of a compiled function, and the four numbers that this takes.
"""

from numba import int64, njit

from .intrinsics import ask, call, pause, pointer_to, read_flag, write_flag

DONE, READY = 0, 1


def serve(box, looks, give_way):
    """Do what is put into the box; come back when so many looks in a row have found nothing.

    Between looks goes a call of the function at the address `give_way`, if any: the thread that would fill
    the box may be waiting for this processor.
    """
    of = pointer_to(box, int64(0))
    found_nothing = 0
    while found_nothing < looks:
        if read_flag(box) == READY:
            call(of[1], of[2], of[3], of[4], of[5])
            write_flag(box, int64(DONE))
            found_nothing = 0
        else:
            rest(give_way)
            found_nothing += 1


@njit(nogil=True, error_model="numpy")
def rest(give_way):
    for _ in range(8):
        pause()
    if give_way != 0:
        ask(give_way)


def begin(box):
    """Let the thread of the box, which is full, have it."""
    write_flag(box, int64(READY))


def wait(box, looks, give_way):
    """Look for the end of what is in the box, so many times at most."""
    while looks > 0 and read_flag(box) == READY:
        rest(give_way)
        looks -= 1
