"""The tile of a call: what a program holds in registers, and in how many warps.  A table, and no search at a
user's first call.

The reasons are those of registers: a thread has at most 255, one of 1024 threads 64.  What a row of two float32
operands needs for 32 elements a thread is some 100.  Smaller tiles leave room for more programs on a
multiprocessor, which hide each other's waiting for memory and for the sums of a row.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    lines: int
    block: int
    warps: int
    parts: int  # in how many of them a line is cut; 1: a line is held as a whole


SMALL = 2048  # elements of a tile of several lines
WARPS = {2048: 4, 4096: 8, 8192: 8, 16384: 16, 32768: 32}
LARGEST = {2: 32768, 4: 16384, 8: 8192}  # elements of a tile, by the bytes of one
PART = {2: 8192, 4: 8192, 8: 4096}  # of a line in parts: small, since the parts must also fill the chip
ENOUGH = 2  # programs for each multiprocessor; fewer long lines than that are cut in parts, to fill them all
LONG = 16384  # bytes of a line from which that pays for two more launches


def power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def tile(n: int, lines: int, inner: int, itemsize: int, across: bool, processors: int) -> Tile:
    """For `lines` lines of n elements, `inner` of them side by side if the tile lies `across` them."""
    block = power_of_two(n)
    if across:
        side = min(power_of_two(inner), 128 // itemsize)  # a cache line of each element along the axis
        few = n * itemsize > LONG and lines < 32 * ENOUGH * processors
    else:
        side = 1
        few = n * itemsize > LONG and lines < ENOUGH * processors
    if few or block * side > LARGEST[itemsize]:
        size = PART[itemsize]
        block = min(block, size // side)
        return Tile(side, block, WARPS[size], -(-n // block))
    small = SMALL // (2 if itemsize == 8 else 1)
    side = max(side, min(power_of_two(inner if across else lines), small // block))
    size = max(small, block * side)
    return Tile(side, block, WARPS[max(2048, size)], 1)
