"""The kernels as XLA calls them: one handler of its foreign function interface, for all operations.

XLA gives the handler a call frame, which is read here as integers of 64 bits (xla/ffi/api/c_api.h, version
0.1).  What does not change with the process, or with the axes that `jax.vmap` puts in front, is an attribute:
`call`, and `numbers`, which are those of `drive` and a factor of what is one number for each row.  The
addresses of the kernels are in a table of this process, which the machine code finds by a symbol, so that an
executable from JAX's cache on disk finds those of its own.
"""

import ctypes
import functools
import math
import sys

import numpy as np
from llvmlite import binding, ir
from numba import cfunc, int32, int64, njit, types
from numba.extending import intrinsic

from . import kernels
from .call import BYTES
from .contiguous import COLUMNS, ROWS, each_tile
from .drive import BUDGET, MOST, NARROW, SMALL
from .intrinsics import I64, after, ask, call, load, pointer_to, store
from .vjp import TILE

helper = njit(nogil=True, error_model="numpy")

# what stands where in the attribute `call`: a number that changes with the kernels, the place of the
# operation in `TABLES`, the dtype, how many arrays it reads, which of all has one number a row (−1: none),
# how many axes come after the reduced one, its length, how many columns a tile has, bytes of scratch memory
STAMP, PLACE, DTYPE, READ, PER_ROW, TRAILING, N, WIDTH, SCRATCH = range(9)

# what stands where in a call frame, in an argument, in an attribute, and in XLA's table of functions
EXTENSION, API, INPUTS, OUTPUTS, ATTRIBUTES = 1, 2, 9, 14, 20
DATA, RANK, DIMS = 3, 4, 5
SIZE, VALUES = 1, 2
CREATE_ERROR = 6
INTERNAL = 13

DTYPES = "float16", "bfloat16", "float32", "float64"
NAMES = sorted(kernels.OPERATIONS)
SYMBOL = "softgrad_tables_for_xla"
# the stamp, the addresses of what an error says and of `madvise` (0: there is none), and for each operation
# and dtype those of the kernels of rows and of columns, or 0
FIRST = 3
TABLES = np.zeros(FIRST + 2 * len(NAMES) * len(DTYPES), np.int64)
MESSAGE = ctypes.create_string_buffer(
    b"softgrad: this executable was compiled by another version, or in another process: trace the function "
    b"once in this one, or clear JAX's compilation cache"
)
TABLES[:2] = kernels.stamp(), ctypes.addressof(MESSAGE)
if sys.platform == "linux":
    TABLES[2] = ctypes.cast(ctypes.CDLL(None).madvise, ctypes.c_void_p).value or 0
LARGE, PAGE, HUGEPAGE = 1 << 22, 4096, 14  # bytes; as NumPy does


@intrinsic
def tables(typing):
    """The address of `TABLES`."""

    def generate(context, builder, signature, values):
        module = builder.module
        symbol = module.globals.get(SYMBOL) or ir.GlobalVariable(module, I64, SYMBOL)
        return builder.ptrtoint(symbol, I64)

    return types.int64(), generate


@helper
def converted(source, target, kind, count, widen):
    """`count` numbers of a dtype to float64, or back."""
    if kind == 0:
        convert(pointer_to(source if widen else target, np.uint16(0)), source, target, count, widen)
    elif kind == 1:
        convert(pointer_to(source if widen else target, np.int16(0)), source, target, count, widen)
    elif kind == 2:
        convert(pointer_to(source if widen else target, np.float32(0)), source, target, count, widen)
    else:
        convert(pointer_to(source if widen else target, np.float64(0)), source, target, count, widen)


@helper
def convert(of_caller, source, target, count, widen):
    wide = pointer_to(target if widen else source, np.float64(0))
    for i in range(count):
        if widen:
            wide[i] = np.float64(load(of_caller, i))
        else:
            store(of_caller, i, type(load(of_caller, i))(wide[i]))


def handler(frame):
    """Do one call; 0, or the address of an error."""
    if frame[EXTENSION] != 0:  # at registration: for which version of the interface
        version = pointer_to(pointer_to(frame[EXTENSION], int64(0))[3], int32(0))
        version[6], version[7], version[8] = int32(0), int32(1), int32(0)
        return int64(0)
    inputs, outputs = pointer_to(frame[INPUTS], int64(0)), pointer_to(frame[OUTPUTS], int64(0))
    attributes = pointer_to(frame[ATTRIBUTES], int64(0))  # by their names: call, numbers
    about = pointer_to(pointer_to(attributes[0], int64(0))[VALUES], int64(0))
    numbers, more = pointer_to(attributes[1], int64(0))[VALUES], pointer_to(attributes[1], int64(0))[SIZE]
    known, read, per_row = pointer_to(tables(), int64(0)), about[READ], about[PER_ROW]
    buffers = np.empty(MOST, np.int64)
    for i in range(read):
        buffers[i] = inputs[i]
    buffers[read] = outputs[0]
    whole = pointer_to(buffers[1 if per_row == 0 else 0], int64(0))
    rank, dims = whole[RANK], pointer_to(whole[DIMS], int64(0))
    at = rank - 1 - about[TRAILING]
    outer, inner, n = int64(1), int64(1), about[N]
    for d in range(rank):
        outer *= dims[d] if d < at else 1
        inner *= dims[d] if d > at else 1
    table = after(known, about[PLACE])
    if about[STAMP] != known[0] or n != dims[at] or table[ROWS if inner == 1 else COLUMNS] == 0:
        given = np.empty(4, np.int64)
        given[0], given[1], given[2], given[3] = 32, 0, known[1], INTERNAL
        return ask(pointer_to(frame[API], int64(0))[CREATE_ERROR], int64(given.ctypes.data))
    scratch = about[SCRATCH]
    memory = np.empty(8 + (outer if per_row >= 0 else 0) + scratch // 8, np.float64)
    room = (int64(memory.ctypes.data) + 63) & -64
    place, step = np.zeros(MOST, np.int64), np.full(MOST, n)
    for i in range(read + 1):
        place[i] = pointer_to(buffers[i], int64(0))[DATA]
    item = int64(2 if about[DTYPE] < 2 else 4 if about[DTYPE] == 2 else 8)
    size = outer * n * inner * item
    if size >= LARGE and per_row != read and known[2] != 0:
        # XLA hands out memory that is not present, and to make it so takes as long as the kernel
        start = (place[read] + PAGE - 1) & -PAGE
        ask(known[2], start, (place[read] + size - start) & -PAGE, int64(HUGEPAGE))
    if per_row >= 0:
        numbers_of_rows, step[per_row] = place[per_row], 1
        place[per_row] = room + scratch
        if per_row < read:
            converted(numbers_of_rows, place[per_row], about[DTYPE], outer, True)
            factor, wide = pointer_to(numbers, 0.0)[more - 1], pointer_to(place[per_row], 0.0)
            for r in range(outer):
                wide[r] *= factor
    if inner == 1:
        call(
            *(table[ROWS], place[0], place[1], place[2], place[3]),
            *(step[0], step[1], step[2], step[3], n, outer, numbers, room),
        )
    else:
        each_tile(
            *(table, place[0], place[1], place[2], place[3], item),
            *(outer, n, inner, about[WIDTH], numbers, room),
        )
    if per_row == read:
        converted(place[per_row], numbers_of_rows, about[DTYPE], outer, False)
    memory[0] = 0.0  # until here it is not given back
    return int64(0)


@functools.cache
def address() -> int:
    """That of the handler."""
    binding.add_symbol(SYMBOL, TABLES.ctypes.data)
    frame = types.CPointer(int64)
    kernels.KEPT.append(kernels.kept_on_disk(cfunc, handler, int64(frame)))
    return int(kernels.KEPT[-1].address)


@functools.cache
def way(name: str, dtype: str, n: int, trailing: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The attribute `call` for arrays with these axes after the reduced one; None if that has to be the last.

    As in `plan.plan`; the kernel is compiled, or read from disk.
    """
    operation, narrow, inner = kernels.OPERATIONS[name], BYTES[dtype] == 2, math.prod(trailing)
    room, width = operation.rows_room(n, narrow), 1
    if inner > 1:
        own, few = (operation.columns_room(n, columns, narrow) for columns in (0, NARROW))
        if not operation.columns or operation.per_row or few - own > BUDGET:
            return None
        if inner < NARROW and size > SMALL:
            return None
        held = operation.columns_room(n, 1, narrow) - own
        width = max(1, min(TILE, inner, (BUDGET - own) // held)) if held else min(TILE, inner)
        room = operation.columns_room(n, width, narrow)
    kind = DTYPES.index(dtype)
    place = FIRST + 2 * (NAMES.index(name) * len(DTYPES) + kind)
    TABLES[place + (COLUMNS if inner > 1 else ROWS)] = kernels.kernel(name, inner > 1, dtype)
    per_row = operation.per_row[0] if operation.per_row else -1
    return kernels.stamp(), place, kind, operation.read, per_row, len(trailing), n, width, (room + 7) // 8 * 8
