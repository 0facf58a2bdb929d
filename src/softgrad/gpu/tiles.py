"""The tile of a call: what a program holds in registers, and in how many warps.  A table, and no search at a
user's first call.

The reasons are those of registers: a thread has at most 255, one of 1024 threads 64.  What a row of two
float32 operands needs for 32 elements a thread is some 100.  Smaller tiles leave room for more programs on a
multiprocessor, which hide each other's waiting for memory and for the sums of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from .lines import Lines


@dataclass(frozen=True, slots=True)
class Tile:
    lines: int
    block: int
    warps: int
    parts: int  # in how many of them a line is cut; 1: a line is held as a whole
    blocks: int = 1  # thread blocks that share a program, a cluster


# elements of a tile: the warps that share them; the first are those of tiles of several lines
WARPS = {
    2: {2048: 4, 4096: 8, 8192: 8, 16384: 16},
    4: {2048: 4, 4096: 8, 8192: 8, 16384: 16},
    8: {1024: 4, 2048: 8, 4096: 16},
}
# The same of entmax, which goes over a longer line in a loop, each time that it needs a sum.  It computes in
# float64 whatever the dtype is: squares at most, or real powers, which take more registers.
LOOPED = {
    "squares": {1024: 4, 2048: 8, 4096: 8},
    "powers": {1024: 4, 2048: 8},
    "float64": {512: 4, 1024: 8, 2048: 16},
}
PART = {2: 8192, 4: 8192, 8: 2048}  # of a line in parts: small, since the parts must also fill the chip
ENOUGH = 2  # programs for each multiprocessor: lines that are fewer, and long, are cut in parts to fill it
LONG = 16384  # bytes of a line from which that pays for two more launches

# A cluster of up to 16 thread blocks can hold a long line and sum it through their shared memory: it
# moves three arrays for a vjp where parts move five, in one launch.  Needs Hopper, Triton 3.9.  Off until
# it was seen to run: so far it was only compiled (no spills), and its machine code looked at.
CLUSTERS = False
MOST_BLOCKS = 16


def power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def tile(found: Lines, itemsize: int, processors: int, weight: int = 1, looped: str | None = None) -> Tile:
    """For what moves `weight` times the operands of a vjp, or holds as many; or for what goes over the parts
    of a line in a loop, by a table of `LOOPED`."""
    n, lines, inner = found.n, found.outer * found.inner, found.inner
    warps = LOOPED[looped] if looped else {size // weight: w for size, w in WARPS[itemsize].items()}
    block = power_of_two(n)
    side = 1
    if found.across:
        # 128 bytes of neighbours, or fewer to hold whole lines: at least 32, of which memory is made, unless
        # that takes a loop
        side, least = (min(power_of_two(inner), size // itemsize) for size in (128, 32))
        least = 1 if looped else least
        if block * least <= max(warps):
            side = min(side, max(warps) // block)
    enough = ENOUGH * processors * (32 if found.across else 1)
    few = n * itemsize > LONG and lines < enough and not looped
    if CLUSTERS and not found.across and not looped and weight == 1 and (few or max(warps) < block):
        share = max(PART[itemsize] // (2 if few else 1), block // MOST_BLOCKS)
        if share <= max(warps):
            return Tile(1, block, warps[share], 1, block // share)
    if few or block * side > max(warps):
        size = max(warps) if looped else PART[itemsize] // weight
        block = min(block, size // side)
        return Tile(side, block, warps[size], -(-n // block))
    small = min(warps)
    side = max(side, min(power_of_two(inner if found.across else lines), small // block))
    return Tile(side, block, warps[max(small, block * side)], 1)
