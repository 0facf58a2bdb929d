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


# elements of a tile: the warps that share them; the first are those of tiles of several lines
WARPS = {
    2: {2048: 4, 4096: 8, 8192: 8, 16384: 16},
    4: {2048: 4, 4096: 8, 8192: 8, 16384: 16},
    8: {1024: 4, 2048: 8, 4096: 16},
}
PART = {2: 8192, 4: 8192, 8: 2048}  # of a line in parts: small, since the parts must also fill the chip
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
    warps = WARPS[itemsize]
    if few or block * side > max(warps):
        size = PART[itemsize]
        block = min(block, size // side)
        return Tile(side, block, warps[size], -(-n // block))
    small = min(warps)
    side = max(side, min(power_of_two(inner if across else lines), small // block))
    return Tile(side, block, warps[max(small, block * side)], 1)
