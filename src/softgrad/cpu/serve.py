"""What a thread does for `team.py` without the GIL: it looks for work, does it, and looks again.

A *box* holds the work: its state, the address of a compiled function, and the four numbers that this takes.
"""

from numba import int64

from .intrinsics import call, pause, pointer_to, read_flag, write_flag

DONE, READY = 0, 1


def serve(box, looks):
    """Do what is put into the box; come back when so many looks in a row have found nothing."""
    of = pointer_to(box, int64(0))
    found_nothing = 0
    while found_nothing < looks:
        if read_flag(box) == READY:
            call(of[1], of[2], of[3], of[4], of[5])
            write_flag(box, int64(DONE))
            found_nothing = 0
        else:
            pause()
            found_nothing += 1


def begin(box):
    """Let the thread of the box, which is full, have it."""
    write_flag(box, int64(READY))


def wait(box, looks):
    """Look for the end of what is in the box, so many times at most."""
    while looks > 0 and read_flag(box) == READY:
        pause()
        looks -= 1
