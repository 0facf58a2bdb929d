"""What the kernels need beyond Python's arithmetic, as single LLVM instructions.

Kernels are compiled without fastmath, so arithmetic is rounded as it is written.  Only `plus`, `plus_product`
and `larger` may be reordered, which is what lets LLVM cut the loops that add up, or look for a maximum, into
lanes.  A kernel holds pointers: `load` and `store` convert the 16-bit types, which come as pointers to the
integers of the same bits (uint16: float16, int16: bfloat16), from and to float32.
"""

import platform

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

SUM = ("reassoc", "nsz", "contract")
MAXIMUM = ("nnan", "nsz", "reassoc")
F32, F64, HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT16, BFLOAT16 = types.uint16, types.int16


def apart(builder, role, instruction):
    """Say that what `load` reads is no memory that `store` writes: no loop has to find out."""
    domain = builder.module.add_metadata(["softgrad"])
    own, written = (builder.module.add_metadata([name, domain]) for name in ("scratch", "written"))
    instruction.set_metadata(
        role, builder.module.add_metadata([written, own] if role == "noalias" else [written])
    )
    if role == "alias.scope":
        instruction.set_metadata("noalias", builder.module.add_metadata([own]))
    return instruction


def scratch(builder, instruction):
    """Say that it is about scratch memory, which lies apart from what `load` reads and `store` writes."""
    domain = builder.module.add_metadata(["softgrad"])
    own, written = (builder.module.add_metadata([name, domain]) for name in ("scratch", "written"))
    instruction.set_metadata("alias.scope", builder.module.add_metadata([own]))
    instruction.set_metadata("noalias", builder.module.add_metadata([written]))
    return instruction


def computed(element):
    """The type that an element is computed in; a mask's stays what it is."""
    return types.float32 if element in (FLOAT16, BFLOAT16) else element


@intrinsic
def load(typing, pointer, index):
    """pointer[index], in the type that it is computed in."""
    element = pointer.dtype

    def code(context, builder, signature, arguments):
        value = apart(builder, "noalias", builder.load(builder.gep(arguments[0], [arguments[1]])))
        if element == FLOAT16:
            return builder.fpext(builder.bitcast(value, HALF), F32)
        if element == BFLOAT16:
            return builder.bitcast(builder.shl(builder.zext(value, I32), I32(16)), F32)
        return value

    return computed(element)(pointer, index), code


@intrinsic
def store(typing, pointer, index, value):
    """pointer[index] = value, rounded once to the nearest, ties to even."""
    element = pointer.dtype

    def code(context, builder, signature, arguments):
        pointer, index, value = arguments
        if element == FLOAT16:
            value = builder.bitcast(builder.fptrunc(value, HALF), I16)
        elif element == BFLOAT16:
            bits = builder.bitcast(value, I32)
            odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
            rounded = builder.add(bits, builder.add(odd, I32(0x7FFF)))
            kept = builder.or_(bits, I32(0x400000))  # of a NaN, which would overflow
            rounded = builder.select(builder.fcmp_unordered("uno", value, value), kept, rounded)
            value = builder.trunc(builder.lshr(rounded, I32(16)), I16)
        apart(builder, "alias.scope", builder.store(value, builder.gep(pointer, [index])))
        return context.get_dummy_value()

    return types.void(pointer, index, computed(element)), code


@intrinsic
def kept(typing, pointer, index):
    """pointer[index], of scratch memory that is written by `keep` alone."""

    def code(context, builder, signature, arguments):
        return scratch(builder, builder.load(builder.gep(arguments[0], [arguments[1]])))

    return pointer.dtype(pointer, index), code


@intrinsic
def keep(typing, pointer, index, value):
    """pointer[index] = value, of scratch memory that is read by `kept` alone."""

    def code(context, builder, signature, arguments):
        scratch(builder, builder.store(arguments[2], builder.gep(arguments[0], [arguments[1]])))
        return context.get_dummy_value()

    return types.void(pointer, index, pointer.dtype), code


@intrinsic
def zero(typing, pointer):
    """0 in the type that the elements of a pointer are computed in."""
    result = computed(pointer.dtype)
    return result(pointer), lambda context, builder, signature, arguments: context.get_constant(result, 0.0)


@intrinsic
def pointer_to(typing, address, like):
    """An address as a pointer of another's type; with a number for `like`, to numbers of its type."""
    result = like if isinstance(like, types.CPointer) else types.CPointer(like)

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(types.int64, like), code


@intrinsic
def after(typing, pointer, index):
    """A pointer to pointer[index]."""
    return pointer(pointer, index), lambda context, builder, signature, arguments: builder.gep(
        arguments[0], [arguments[1]]
    )


@intrinsic
def plus(typing, a, b):
    """a + b, of a sum whose order is LLVM's."""

    def code(context, builder, signature, arguments):
        return builder.fadd(*arguments, flags=SUM)

    return a(a, a), code


@intrinsic
def plus_product(typing, a, b, c):
    """a + b·c, of a sum whose order is LLVM's, rounded once where the machine has such an instruction."""

    def code(context, builder, signature, arguments):
        a, b, c = arguments
        return builder.fadd(a, builder.fmul(b, c, flags=("contract",)), flags=SUM)

    return a(a, a, a), code


def call_llvm(builder, name, arguments, flags=()):
    """LLVM's own function of this name, of numbers of one type."""
    number = arguments[0].type
    kind = ir.FunctionType(number, [number] * len(arguments))
    return builder.call(builder.module.declare_intrinsic(name, [number], kind), arguments, fastmath=flags)


@intrinsic
def larger(typing, a, b):
    """The larger one; of a NaN nothing is said."""

    def code(context, builder, signature, arguments):
        return call_llvm(builder, "llvm.maximum", arguments, MAXIMUM)

    return a(a, a), code


@intrinsic
def choose(typing, condition, a, b):
    """a if condition else b, without a branch, which might stop a loop from being cut into lanes."""

    def code(context, builder, signature, arguments):
        return builder.select(*arguments)

    return a(types.boolean, a, a), code


@intrinsic
def fma(typing, a, b, c):
    """a·b + c with one rounding."""

    def code(context, builder, signature, arguments):
        return call_llvm(builder, "llvm.fma", arguments)

    return a(a, a, a), code


@intrinsic
def power_of_two(typing, number, shift):
    """The float whose bits are those of `number`, shifted to the left."""

    def code(context, builder, signature, arguments):
        integer = I32 if number == types.float32 else I64
        bits = builder.bitcast(arguments[0], integer)
        return builder.bitcast(builder.shl(bits, builder.trunc(arguments[1], integer)), arguments[0].type)

    return number(number, types.int64), code


@intrinsic
def bits(typing, number):
    """The bits of a float64 as a whole number, or of a whole number as a float64."""
    result, kind = (types.int64, I64) if number == types.float64 else (types.float64, F64)
    return result(number), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], kind)


@intrinsic
def call(typing, function, *arguments):
    """Call the kernel at an address."""

    def code(context, builder, signature, given):
        function, values = given
        values = [builder.extract_value(values, i) for i in range(len(arguments))]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(function, kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple.from_types(arguments)), code


@intrinsic
def ask(typing, function):
    """The address that the function at an address returns."""

    def code(context, builder, signature, given):
        kind = ir.FunctionType(I64, [])
        return builder.call(builder.inttoptr(given[0], kind.as_pointer()), [])

    return types.int64(types.int64), code


@intrinsic
def read_flag(typing, address):
    """The int64 that another thread writes by `write_flag`, and with it all that was written before."""

    def code(context, builder, signature, given):
        return builder.load_atomic(builder.inttoptr(given[0], I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), code


@intrinsic
def write_flag(typing, address, value):
    """For `read_flag` of another thread."""

    def code(context, builder, signature, given):
        builder.store_atomic(given[1], builder.inttoptr(given[0], I64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def pause(typing):
    """Let the other thread of a core have it for some cycles."""

    def code(context, builder, signature, given):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", [], kind), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def address_of(typing, pointer):
    """The address that a pointer holds."""

    def code(context, builder, signature, arguments):
        return builder.ptrtoint(arguments[0], I64)

    return types.int64(pointer), code


@intrinsic
def is_narrow(typing, pointer):
    """Whether its elements are computed in a wider type; a constant."""
    narrow = computed(pointer.dtype) != pointer.dtype

    def code(context, builder, signature, arguments):
        return context.get_constant(types.boolean, narrow)

    return types.boolean(pointer), code


@intrinsic
def bytes_of(typing, pointer):
    """How many an element has; a constant."""
    size = pointer.dtype.bitwidth // 8

    def code(context, builder, signature, arguments):
        return context.get_constant(types.uint64, size)

    return types.uint64(pointer), code
