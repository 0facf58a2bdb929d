"""The kernels as XLA calls them: one handler of its foreign function interface, for all operations.

Segments come as the number of the segment that each element of the axis is in; the handler sorts by it.

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
from .contiguous import COLUMNS, ROWS
from .drive import BUDGET, COLUMNS_PACKED, CUTS, FIRST, MORE, MOST, NARROW, NEXT, SEGMENTS, SMALL, WHOLE
from .intrinsics import I64, after, ask, call, load, pointer_to, store
from .segments import PACKED
from .vjp import TILE

helper = njit(nogil=True, error_model="numpy")

# what stands where in the attribute `call`: a number that changes with the kernels, the places in `TABLES` of
# the operation and of what it does in segments (0: rows are whole), the dtype, how many arrays it reads,
# which of all has one number a row (−1: none), how many axes come after the reduced one, its length, how many
# segments it has (1: it is whole), how many columns a tile has, bytes of scratch memory
STAMP, PLACE, PART, DTYPE, READ, PER_ROW, TRAILING, N, PARTS, WIDTH, SCRATCH = range(11)

# what stands where in a call frame, in an argument, in an attribute, and in XLA's table of functions
EXTENSION, API, INPUTS, OUTPUTS, ATTRIBUTES = 1, 2, 9, 14, 20
DATA, RANK, DIMS = 3, 4, 5
SIZE, VALUES = 1, 2
CREATE_ERROR = 6
EXHAUSTED, INTERNAL = 8, 13

DTYPES = "float16", "bfloat16", "float32", "float64"
NAMES = sorted(kernels.OPERATIONS)
SYMBOL = "softgrad_tables_for_xla"
# the stamp, the addresses of what errors say and of `madvise` (0: there is none), and for each operation and
# dtype those of the kernels of rows and of columns, or 0
OTHER, FULL, ADVISE, HEAD = range(1, 5)
TABLES = np.zeros(HEAD + 2 * len(NAMES) * len(DTYPES), np.int64)
NO_MEMORY = ctypes.create_string_buffer(b"softgrad: there is no memory for what a kernel keeps of its rows")
MESSAGE = ctypes.create_string_buffer(
    b"softgrad: this executable was compiled by another version, or in another process: trace the function "
    b"once in this one, or clear JAX's compilation cache"
)
TABLES[: FULL + 1] = kernels.stamp(), ctypes.addressof(MESSAGE), ctypes.addressof(NO_MEMORY)
if sys.platform == "linux":
    TABLES[ADVISE] = ctypes.cast(ctypes.CDLL(None).madvise, ctypes.c_void_p).value or 0
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


@helper
def cut(ids, n, segments, cuts):
    """Where segments begin; whether their elements follow one another."""
    is_sorted, last = True, int32(0)
    for s in range(segments + 1):
        cuts[s] = 0
    for i in range(n):
        cuts[ids[i] + 1] += 1
        is_sorted &= last <= ids[i]
        last = ids[i]
    for s in range(segments):
        cuts[s + 1] += cuts[s]
    return is_sorted


@helper
def sort(ids, n, segments, cuts, to):
    """The place of each element among the sorted ones."""
    free = cuts.copy()
    for i in range(n):
        to[i] = free[ids[i]]
        free[ids[i]] += 1


@helper
def ordered(source, target, to, outer, n, size, back):
    """The pieces of `size` bytes of each of `outer` rows to their places, or back."""
    if size == 2:
        pieces(np.int16(0), source, target, to, outer, n, int64(1), back)
    elif size == 4:
        pieces(int32(0), source, target, to, outer, n, int64(1), back)
    elif size % 8 == 0:
        pieces(int64(0), source, target, to, outer, n, size // 8, back)
    else:
        pieces(np.int16(0), source, target, to, outer, n, size // 2, back)


@helper
def pieces(like, source, target, to, outer, n, size, back):
    read, written = pointer_to(source, like), pointer_to(target, like)
    for r in range(outer):
        for i in range(n):
            here, there = (r * n + i) * size, (r * n + to[i]) * size
            if back:
                here, there = there, here
            for k in range(size):
                written[there + k] = read[here + k]


def handler(frame):
    """Do one call; 0, or the address of an error."""
    if frame[EXTENSION] != 0:  # at registration: for which version of the interface
        version = pointer_to(pointer_to(frame[EXTENSION], int64(0))[3], int32(0))
        version[6], version[7], version[8] = int32(0), int32(1), int32(0)
        return int64(0)
    try:
        message, code = done(frame), int64(INTERNAL)
    except Exception:
        message, code = int64(FULL), int64(EXHAUSTED)
    if message == 0:
        return message
    given = np.empty(4, np.int64)
    given[0], given[1], given[2], given[3] = 32, 0, pointer_to(tables(), int64(0))[message], code
    return ask(pointer_to(frame[API], int64(0))[CREATE_ERROR], int64(given.ctypes.data))


@helper
def done(frame):
    """Do the call; 0, or where in `TABLES` it is said what is wrong."""
    inputs, outputs = pointer_to(frame[INPUTS], int64(0)), pointer_to(frame[OUTPUTS], int64(0))
    attributes = pointer_to(frame[ATTRIBUTES], int64(0))  # by their names: call, numbers
    about = pointer_to(pointer_to(attributes[0], int64(0))[VALUES], int64(0))
    numbers, more = pointer_to(attributes[1], int64(0))[VALUES], pointer_to(attributes[1], int64(0))[SIZE]
    known, read, per_row = pointer_to(tables(), int64(0)), about[READ], about[PER_ROW]
    buffers = np.empty(MOST + 1, np.int64)
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
    table, part, kind = after(known, about[PLACE]), about[PART], ROWS if inner == 1 else COLUMNS
    ids, ready = pointer_to(inputs[read if part != 0 else 0], int64(0)), table[kind] != 0
    if part != 0:
        ready &= known[part + kind] != 0 and pointer_to(ids[DIMS], int64(0))[0] == n and about[PARTS] > 0
    if about[STAMP] != known[0] or n != dims[at] or not ready:
        return int64(OTHER)
    item = int64(2 if about[DTYPE] < 2 else 4 if about[DTYPE] == 2 else 8)
    size, segments, scratch = outer * n * inner * item, about[PARTS], about[SCRATCH]
    of_rows = outer * segments * inner if per_row >= 0 else 0
    memory = np.empty(8 + of_rows + scratch // 8, np.float64)
    room = (int64(memory.ctypes.data) + 63) & -64
    # of each array the first element, how many of its elements lie between two rows, and how many bytes
    # between two blocks of columns, and between two columns
    place, step = np.zeros(MOST, np.int64), np.full(MOST, n if inner == 1 else inner)
    block, column = np.full(MOST, n * inner * item), np.full(MOST, item)
    for i in range(read + 1):
        place[i] = pointer_to(buffers[i], int64(0))[DATA]
    if size >= LARGE and per_row != read and known[ADVISE] != 0:
        # XLA hands out memory that is not present, and to make it so takes as long as the kernel
        start = (place[read] + PAGE - 1) & -PAGE
        ask(known[ADVISE], start, (place[read] + size - start) & -PAGE, int64(HUGEPAGE))
    numbers_of_rows, factor = int64(0), pointer_to(numbers, 0.0)[more - 1]
    if per_row >= 0:
        numbers_of_rows, place[per_row] = place[per_row], room + scratch
        step[per_row] = segments if inner == 1 else 0
        block[per_row], column[per_row] = segments * inner * 8, 8
        wide = pointer_to(place[per_row], 0.0)
        if per_row < read:
            converted(numbers_of_rows, place[per_row], about[DTYPE], of_rows, True)
        for r in range(of_rows):
            wide[r] = factor if per_row == read else wide[r] * factor
    is_sorted, to, cuts = True, np.empty(0, np.int32), np.empty(segments + 1, np.int64)
    kept = np.empty(NEXT + 1, np.int64)  # the numbers of a call of segments
    arrays = np.empty(0, np.float64)
    if part != 0:
        is_sorted = cut(pointer_to(ids[DATA], int32(0)), n, segments, cuts)
        for i in range(MORE):
            kept[i] = pointer_to(numbers, int64(0))[i]
        kept[CUTS], kept[SEGMENTS], kept[WHOLE] = cuts.ctypes.data, segments, known[part + kind]
        kept[COLUMNS_PACKED], kept[FIRST] = inner if inner in PACKED else 0, 0
        pointer_to(int64(kept.ctypes.data), 0.0)[NEXT] = np.float64(inner)
        numbers = int64(kept.ctypes.data)
    if not is_sorted:
        to = np.empty(n, np.int32)
        sort(pointer_to(ids[DATA], int32(0)), n, segments, cuts, to)
        arrays = np.empty((size + 63) // 64 * 8 * (read + 1), np.float64)
        for i in range(read + 1):
            moved = int64(arrays.ctypes.data) + (size + 63) // 64 * 64 * i
            if i != per_row:
                if i < read:
                    ordered(place[i], moved, to, outer, n, inner * item, False)
                place[i] = moved
    for i in range(1 if inner == 1 else outer):
        for first in range(0, inner, about[WIDTH]):
            count = outer if inner == 1 else min(about[WIDTH], inner - first)
            call(
                table[kind],
                *(place[0] + i * block[0] + first * column[0], place[1] + i * block[1] + first * column[1]),
                *(place[2] + i * block[2] + first * column[2], place[3] + i * block[3] + first * column[3]),
                *(step[0], step[1], step[2], step[3], n, count, numbers, room),
            )
    if per_row == read:
        converted(place[per_row], numbers_of_rows, about[DTYPE], of_rows, False)
    elif not is_sorted:
        ordered(place[read], pointer_to(outputs[0], int64(0))[DATA], to, outer, n, inner * item, True)
    memory[0] = 0.0  # until here none of them is given back
    cuts[0] = kept[0] = to.size + arrays.size
    return int64(0)


@functools.cache
def address() -> int:
    """That of the handler."""
    binding.add_symbol(SYMBOL, TABLES.ctypes.data)
    frame = types.CPointer(int64)
    kernels.KEPT.append(kernels.kept_on_disk(cfunc, handler, int64(frame)))
    return int(kernels.KEPT[-1].address)


@functools.cache
def way(
    name: str, dtype: str, n: int, trailing: tuple[int, ...], size: int, segments: int
) -> tuple[int, ...] | None:
    """The attribute `call` for arrays with these axes after the reduced one; None if that has to be the last.

    As in `plan.plan`; the kernel is compiled, or read from disk.
    """
    operation, narrow, inner = kernels.OPERATIONS[name], BYTES[dtype] == 2, math.prod(trailing)
    room, width, columns = operation.rows_room(n, narrow), 1, inner > 1
    if columns:
        own, few = (operation.columns_room(n, wide, narrow) for wide in (0, NARROW))
        if not operation.columns or few - own > BUDGET:
            return None
        if inner < NARROW and size > SMALL:
            return None
        held = operation.columns_room(n, 1, narrow) - own
        width = max(1, min(TILE, inner, (BUDGET - own) // held)) if held else min(TILE, inner)
        width = inner if operation.part and inner in PACKED else width
        room = operation.columns_room(n, width, narrow)
    kind, per_row = DTYPES.index(dtype), operation.per_row[0] if operation.per_row else -1
    places = []
    for of in (name, operation.part):
        places.append(HEAD + 2 * (NAMES.index(of) * len(DTYPES) + kind) if of else 0)
        if of:
            TABLES[places[-1] + (COLUMNS if columns else ROWS)] = kernels.kernel(of, columns, dtype)
    shape = len(trailing), n, segments, width
    return kernels.stamp(), *places, kind, operation.read, per_row, *shape, (room + 7) // 8 * 8
