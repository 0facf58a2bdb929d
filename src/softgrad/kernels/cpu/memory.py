"""Between memory and `Vec`s: whole vectors, the first few lanes of one, lanes far apart.

An array is a `buffer`: the kernels know where an element lies by its distance `at` from the first one, in
elements.  An `at` that is a number means `LANES` neighbours; a tuple of numbers, as many in all, in parts
that begin there; a Vec of int64 names a place for each lane.  Sixteen-bit floats come in as integers of the
same bits, since Numba has no arithmetic for them (``uint16`` is float16, ``int16`` is bfloat16), and are
float32 from `load` to `store`.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import half
from .buffer import BFLOAT16, BYTES, CACHE_LINE, FLOAT16, IN_MEMORY, ROOM, i64
from .compiling import per_type
from .vec import LANES, Vec, broadcast, call, i8, i32, llvm_vector

NAME = {FLOAT16: "i16", BFLOAT16: "i16", types.float32: "f32", types.float64: "f64", types.boolean: "i8"}


def raw_scratch(array, size):
    """Room for `size` numbers as they are in this buffer; `release` it in the end."""
    raise NotImplementedError("compiled only")


@per_type(raw_scratch)
def compile_raw_scratch(array, size):
    room = ROOM[array.dtype]
    return lambda array, size: room(size)


def lane_type(dtype):
    """What an element of `dtype` is while it is in a Vec."""
    return types.float32 if dtype in (FLOAT16, BFLOAT16) else dtype


def scratch(array, size):
    """Room for `size` numbers of the type that `load` gives for this buffer; `release` it in the end."""
    raise NotImplementedError("compiled only")


@per_type(scratch)
def compile_scratch(array, size):
    room = ROOM[lane_type(array.dtype)]
    return lambda array, size: room(size)


# --- between the bits in memory and the lanes --------------------------------------------------------


def widen(builder, raw, dtype):
    if dtype == FLOAT16:
        return half.to_single(builder, raw)
    if dtype == BFLOAT16:  # the upper half of a float32
        wide = builder.zext(raw, llvm_vector(types.int32))
        return builder.bitcast(builder.shl(wide, broadcast(builder, i32(16))), llvm_vector(types.float32))
    if dtype == types.boolean:
        return builder.icmp_unsigned("!=", raw, ir.Constant(raw.type, None))
    return raw


def narrow(builder, value, dtype):
    if dtype == FLOAT16:
        return half.to_half(builder, value)
    if dtype == BFLOAT16:
        # to nearest, ties to even: add half a unit, less one bit where the last bit that stays is 0;
        # a NaN gets its quiet bit instead, since the addition could carry it to infinity
        def every(number):
            return broadcast(builder, i32(number))

        whole = builder.bitcast(value, llvm_vector(types.int32))
        last = builder.and_(builder.lshr(whole, every(16)), every(1))
        rounded = builder.add(whole, builder.add(last, every(0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", value, value)
        kept = builder.select(is_nan, builder.or_(whole, every(0x400000)), rounded)
        return builder.trunc(builder.lshr(kept, every(16)), ir.VectorType(ir.IntType(16), LANES))
    if dtype == types.boolean:
        return builder.zext(value, ir.VectorType(ir.IntType(8), LANES))
    return value


# --- llvm.masked.* -----------------------------------------------------------------------------------


def first_lanes(builder, live, lanes=LANES):
    """The mask of the first `live` lanes."""
    lane = ir.Constant(ir.VectorType(live.type, lanes), list(range(lanes)))
    return builder.icmp_signed("<", lane, broadcast(builder, live, lanes))


def load_first(builder, place, dtype, mask, fill):
    """The elements at `place` where the mask is true, `fill` elsewhere."""
    args = place, i32(BYTES[dtype]), mask, fill
    return call(builder, f"llvm.masked.load.v{mask.type.count}{NAME[dtype]}.p0", fill.type, *args)


def store_first(builder, raw, place, dtype, mask):
    """Write the lanes of `raw` to `place` where the mask is true."""
    args = raw, place, i32(BYTES[dtype]), mask
    call(builder, f"llvm.masked.store.v{mask.type.count}{NAME[dtype]}.p0", ir.VoidType(), *args)


def place_of(builder, memory, dtype, at, lanes=LANES):
    """The pointer to the element `at`, as an LLVM pointer to a vector of them."""
    return builder.bitcast(builder.gep(memory, [at]), ir.VectorType(IN_MEMORY[dtype], lanes).as_pointer())


def read(builder, place, dtype, live, fill):
    """The first `live` elements at `place`, `fill` in the lanes behind; as they are in memory."""
    vector = ir.VectorType(IN_MEMORY[dtype], LANES)
    with builder.if_else(builder.icmp_signed(">=", live, live.type(LANES)), likely=True) as (full, part):
        with full:
            whole = builder.load(place)
            whole.align = BYTES[dtype]
            whole_block = builder.block
        with part:
            some = load_first(builder, place, dtype, first_lanes(builder, live), fill)
            some_block = builder.block
    raw = builder.phi(vector)
    raw.add_incoming(whole, whole_block)
    raw.add_incoming(some, some_block)
    return raw


def write(builder, place, dtype, live, raw):
    """Write the first `live` lanes of `raw` to `place`."""
    with builder.if_else(builder.icmp_signed(">=", live, live.type(LANES)), likely=True) as (full, part):
        with full:
            builder.store(raw, place).align = BYTES[dtype]
        with part:
            store_first(builder, raw, place, dtype, first_lanes(builder, live))


def joined(builder, parts):
    """Vectors of equally many lanes behind each other as one."""
    while len(parts) > 1:
        width = parts[0].type.count
        index = ir.VectorType(i32, 2 * width)(list(range(2 * width)))
        parts = [builder.shuffle_vector(a, b, index) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def part_of(builder, vector, part, width):
    """The lanes of one part, of `width` lanes."""
    index = ir.VectorType(i32, width)(list(range(width * part, width * (part + 1))))
    return builder.shuffle_vector(vector, vector, index)


def each_part(builder, memory, dtype, at, live):
    """Of each part its number, its pointer, and the mask of its lanes that are there (less than 2³¹)."""
    at = cgutils.unpack_tuple(builder, at)
    width = LANES // len(at)
    if isinstance(live.type, ir.IntType):  # one number: it is `LANES`, and all are there
        live = [live.type(width)] * len(at)
    else:
        live = cgutils.unpack_tuple(builder, live)
    for part, (start, some) in enumerate(zip(at, live, strict=True)):
        mask = first_lanes(builder, builder.trunc(some, i32), width)
        yield part, place_of(builder, memory, dtype, start, width), mask


# --- what the kernels call ---------------------------------------------------------------------------


def each_lane(builder, memory, at):
    """The pointer of every lane, for an `at` that names a place for each."""
    return [builder.gep(memory, [builder.extract_element(at, i32(lane))]) for lane in range(LANES)]


def index_type(given):
    """What an `at`, or a `live`, is taken as."""
    return given if isinstance(given, (Vec, types.UniTuple)) else types.intp


@intrinsic
def load(typingctx, array, at, live, fill):
    """The first `live` lanes (of each part, if it is a tuple) from the places `at`, the others `fill`."""
    dtype = array.dtype

    def neighbours(builder, memory, at, live, fill):
        raw = read(builder, place_of(builder, memory, dtype, at), dtype, live, narrow(builder, fill, dtype))
        return widen(builder, raw, dtype)

    def parts(builder, memory, at, live, fill):
        raws, fill = [], narrow(builder, fill, dtype)
        for part, place, mask in each_part(builder, memory, dtype, at, live):
            rest = part_of(builder, fill, part, mask.type.count)
            raws.append(load_first(builder, place, dtype, mask, rest))
        return widen(builder, joined(builder, raws), dtype)

    def scattered(builder, memory, at, live, fill):
        # a lane that is not there reads what lane 0 reads, and forgets it
        there = first_lanes(builder, live)
        at = builder.select(there, at, broadcast(builder, builder.extract_element(at, i32(0))))
        raw = ir.Constant(ir.VectorType(IN_MEMORY[dtype], LANES), ir.Undefined)
        for lane, pointer in enumerate(each_lane(builder, memory, at)):
            raw = builder.insert_element(raw, builder.load(pointer), i32(lane))
        return builder.select(there, widen(builder, raw, dtype), fill)

    def codegen(context, builder, sig, args):
        memory, at, live, fill = args
        fill = broadcast(builder, context.cast(builder, fill, sig.args[3], lane_type(dtype)))
        gather = {Vec: scattered, types.UniTuple: parts}.get(type(sig.args[1]), neighbours)
        return gather(builder, memory, at, live, fill)

    return Vec(lane_type(dtype))(array, index_type(at), index_type(live), fill), codegen


@intrinsic
def load_index(typingctx, array):
    """The `LANES` int64 of an array, as a Vec."""

    def codegen(context, builder, sig, args):
        memory = context.make_array(array)(context, builder, args[0])
        whole = builder.load(builder.bitcast(memory.data, llvm_vector(types.int64).as_pointer()))
        whole.align = 8
        return whole

    return Vec(types.int64)(array), codegen


@intrinsic
def beginning(typingctx, live):
    """The mask that is true in the first `live` lanes."""

    def codegen(context, builder, sig, args):
        return first_lanes(builder, args[0])

    return Vec(types.boolean)(types.intp), codegen


@intrinsic
def zeros(typingctx, array):
    """A Vec of zeros of the type that `load` gives for this array."""
    vec = Vec(lane_type(array.dtype))

    def codegen(context, builder, sig, args):
        return ir.Constant(llvm_vector(vec.dtype), None)

    return vec(array), codegen


@intrinsic
def prefetch(typingctx, array, at):
    """Ask for the neighbours at `at`: they will be read soon, or written if the array may be.

    They are asked into the second-level cache; the first is full of what is worked on.
    """
    dtype = array.dtype

    def codegen(context, builder, sig, args):
        memory, at = args
        for lane in range(0, LANES, CACHE_LINE // BYTES[dtype]):
            line = builder.bitcast(builder.gep(memory, [builder.add(at, at.type(lane))]), i8.as_pointer())
            will_write, level_2, is_data = i32(int(array.mutable)), i32(2), i32(1)
            call(builder, "llvm.prefetch.p0", ir.VoidType(), line, will_write, level_2, is_data)
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@intrinsic
def to_line(typingctx, array, at):
    """How many elements there are from `at` to where a cache line begins."""
    size = BYTES[array.dtype]

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(builder.gep(args[0], [args[1]]), i64)
        return builder.udiv(builder.and_(builder.neg(address), i64(CACHE_LINE - 1)), i64(size))

    return types.intp(array, types.intp), codegen


@intrinsic
def store(typingctx, array, at, value, live):
    """Write the first `live` lanes of `value` (of each part, if it is a tuple) to the places `at`, rounded to
    the array's type."""
    dtype = array.dtype

    def neighbours(builder, memory, at, raw, live):
        write(builder, place_of(builder, memory, dtype, at), dtype, live, raw)

    def parts(builder, memory, at, raw, live):
        for part, place, mask in each_part(builder, memory, dtype, at, live):
            store_first(builder, part_of(builder, raw, part, mask.type.count), place, dtype, mask)

    def scattered(builder, memory, at, raw, live):
        for lane, pointer in enumerate(each_lane(builder, memory, at)):
            with builder.if_then(builder.icmp_signed("<", live.type(lane), live)):
                builder.store(builder.extract_element(raw, i32(lane)), pointer)

    def codegen(context, builder, sig, args):
        memory, at, value, live = args
        scatter = {Vec: scattered, types.UniTuple: parts}.get(type(sig.args[1]), neighbours)
        scatter(builder, memory, at, narrow(builder, value, dtype), live)
        return context.get_dummy_value()

    return types.none(array, index_type(at), value, index_type(live)), codegen
