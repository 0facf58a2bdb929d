"""A `Vec` in parts: its lanes divided among a few runs of neighbours that lie anywhere in memory.

What differs from part to part is a tuple of numbers, one for each: `memory.load` takes such places.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .memory import joined, part_of
from .vec import LANES, Vec, fold, i32, llvm_vector


@intrinsic
def taken(typingctx, array, at, parts):
    """The numbers array[at], array[at + 1], …, one for each of the parts; past the end, the last again."""

    def codegen(context, builder, sig, args):
        memory = context.make_array(array)(context, builder, args[0])
        last = builder.sub(memory.nitems, memory.nitems.type(1))
        found = []
        for part in range(len(parts)):
            place = builder.add(args[1], args[1].type(part))
            place = builder.select(builder.icmp_signed("<", place, last), place, last)
            found.append(builder.load(builder.gep(memory.data, [place])))
        return cgutils.pack_array(builder, found)

    return types.UniTuple(array.dtype, len(parts))(array, types.intp, parts), codegen


@intrinsic
def from_0(typingctx, parts):
    """0, 1, …: the numbers of the parts."""

    def codegen(context, builder, sig, args):
        return cgutils.pack_array(builder, [ir.IntType(64)(part) for part in range(len(parts))])

    return types.UniTuple(types.int64, len(parts))(parts), codegen


# --- number by number ----------------------------------------------------------------------------------


def declare_each(instructions, result=None):
    """An intrinsic on two tuples, member by member; a plain number stands for itself beside each."""

    @intrinsic
    def each(typingctx, a, b):
        tuples = [t for t in (a, b) if isinstance(t, types.UniTuple)]
        dtype, count = tuples[-1].dtype, len(tuples[-1])
        if len(tuples) == 1 and dtype == types.boolean:
            dtype = types.intp  # the number's

        def codegen(context, builder, sig, args):
            members = [
                cgutils.unpack_tuple(builder, v) if isinstance(t, types.UniTuple) else [v] * count
                for v, t in zip(args, sig.args, strict=True)
            ]
            found = [instructions(builder, *two) for two in zip(*members, strict=True)]
            return cgutils.pack_array(builder, found)

        taken_as = (t if isinstance(t, types.UniTuple) else dtype for t in (a, b))
        return types.UniTuple(result or dtype, count)(*taken_as), codegen

    return each


def less(builder, a, b):
    compare = builder.icmp_signed if isinstance(a.type, ir.IntType) else builder.fcmp_ordered
    return compare("<", a, b)


def quotient(builder, a, b):
    """a/b; NaN for an infinite a."""
    return builder.fadd(builder.fdiv(a, b), builder.fsub(a, a))


plus = declare_each(lambda builder, a, b: builder.add(a, b))  # these three of whole numbers
minus = declare_each(lambda builder, a, b: builder.sub(a, b))
times = declare_each(lambda builder, a, b: builder.mul(a, b))
below = declare_each(less, types.boolean)
both = declare_each(lambda builder, a, b: builder.and_(a, b))
only = declare_each(lambda builder, a, b: builder.select(a, b, b.type(0)))  # b where a is true, else 0
ratio = declare_each(quotient)


# --- over the lanes of each part: a number for each; over the parts, lane by lane: the same Vec in each ----


def add(builder, a, b):
    return builder.fadd(a, b)


def larger_of(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def first_of_two(builder, a, b):
    return a


def declare(combine):
    """Both, as intrinsics that combine halves; `like` is any tuple of as many members as there are parts."""

    @intrinsic
    def over_each(typingctx, value, like):
        parts = len(like)

        def codegen(context, builder, sig, args):
            found = fold(builder, args[0], lambda a, b: combine(builder, a, b), parts)
            return cgutils.pack_array(builder, [builder.extract_element(found, i32(p)) for p in range(parts)])

        return types.UniTuple(value.dtype, parts)(value, like), codegen

    @intrinsic
    def across(typingctx, value, like):
        def codegen(context, builder, sig, args):
            parts = [part_of(builder, args[0], p, LANES // len(like)) for p in range(len(like))]
            while len(parts) > 1:
                half = len(parts) // 2
                parts = [combine(builder, a, b) for a, b in zip(parts[:half], parts[half:], strict=True)]
            return joined(builder, parts * len(like))

        return value(value, like), codegen

    return over_each, across


sums_of, sum_across = declare(add)
maxima_of, max_across = declare(larger_of)
firsts_of, first_across = declare(first_of_two)


@intrinsic
def in_parts(typingctx, numbers):
    """The Vec that has each of the numbers in all lanes of its part."""
    parts = len(numbers)

    def codegen(context, builder, sig, args):
        vector = ir.Constant(ir.VectorType(llvm_vector(numbers.dtype).element, parts), ir.Undefined)
        for part, number in enumerate(cgutils.unpack_tuple(builder, args[0])):
            vector = builder.insert_element(vector, number, i32(part))
        index = ir.VectorType(i32, LANES)([lane // (LANES // parts) for lane in range(LANES)])
        return builder.shuffle_vector(vector, vector, index)

    return Vec(numbers.dtype)(numbers), codegen
