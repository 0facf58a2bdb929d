"""Where an array lies in memory, without the array.

Numba counts the references to an array, and does so wherever it is handed on: dozens of times for a row, by
calls that leave no vector in its register.  A kernel therefore takes the `buffer` of each array and
handles these alone.  Its scratch memory it asks for with `room` and gives back with `release`.
"""

import operator

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from .compiling import per_type

# Sixteen-bit floats are integers of the same bits to Numba, which has no arithmetic for them.
FLOAT16, BFLOAT16 = types.uint16, types.int16

IN_MEMORY = {
    FLOAT16: ir.IntType(16),
    BFLOAT16: ir.IntType(16),
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.boolean: ir.IntType(8),
    types.int64: ir.IntType(64),
}
BYTES = {
    FLOAT16: 2,
    BFLOAT16: 2,
    types.float32: 4,
    types.float64: 8,
    types.boolean: 1,
    types.int64: 8,
}

CACHE_LINE = 64

i64 = ir.IntType(64)


class Buffer(types.Type):
    """The Numba type of the place of the first of many numbers of `dtype`."""

    def __init__(self, dtype, mutable=True):
        self.dtype, self.mutable = dtype, mutable
        super().__init__(name=f"Buffer({dtype}, {mutable})")


@register_model(Buffer)
class BufferModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, IN_MEMORY[fe_type.dtype].as_pointer())


@intrinsic
def of_array(typingctx, array):
    result = Buffer(array.dtype, array.mutable)

    def codegen(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.bitcast(data, context.get_value_type(result))

    return result(array), codegen


def buffer(array):
    """The buffer of an array; None of None.  The array must live as long as it."""
    raise NotImplementedError("compiled only")


@per_type(buffer)
def compile_buffer(array):
    if isinstance(array, types.NoneType):
        return lambda array: None
    return lambda array: of_array(array)


# --- scratch memory ----------------------------------------------------------------------------------


def room_type(dtype):
    """An intrinsic that finds room for so many numbers of `dtype`, beginning with a cache line."""

    @intrinsic
    def find(typingctx, size):
        result = Buffer(dtype)

        def codegen(context, builder, sig, args):
            # some bytes more, to begin at a cache line and to keep before it where they really begin
            byte_count = builder.add(builder.mul(args[0], i64(BYTES[dtype])), i64(CACHE_LINE + 8))
            begin = context.nrt.allocate(builder, byte_count)
            address = builder.ptrtoint(begin, i64)
            with builder.if_then(builder.icmp_unsigned("==", address, i64(0)), likely=False):
                context.call_conv.return_user_exc(builder, MemoryError, ("no room for a kernel's scratch",))
            line = builder.and_(builder.add(address, i64(CACHE_LINE + 7)), i64(-CACHE_LINE))
            kept = builder.inttoptr(builder.sub(line, i64(8)), i64.as_pointer())
            builder.store(address, kept)
            return builder.inttoptr(line, context.get_value_type(result))

        return result(types.intp), codegen

    return find


ROOM = {dtype: room_type(dtype) for dtype in BYTES}
room_of_indices = ROOM[types.int64]


@intrinsic
def release(typingctx, room):
    """Give back what a `room_type` found."""

    def codegen(context, builder, sig, args):
        line = builder.ptrtoint(args[0], i64)
        kept = builder.inttoptr(builder.sub(line, i64(8)), i64.as_pointer())
        begin = builder.inttoptr(builder.load(kept), ir.IntType(8).as_pointer())
        context.nrt.free(builder, begin)
        return context.get_dummy_value()

    return types.none(room), codegen


# --- single numbers ----------------------------------------------------------------------------------


@infer_global(operator.getitem)
class GetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Buffer) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class SetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Buffer) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


@lower_builtin(operator.getitem, Buffer, types.Integer)
def get_item(context, builder, sig, args):
    return builder.load(builder.gep(args[0], [args[1]]))


@lower_builtin(operator.setitem, Buffer, types.Integer, types.Any)
def set_item(context, builder, sig, args):
    builder.store(args[2], builder.gep(args[0], [args[1]]))
    return context.get_dummy_value()
