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


def code(emit):
    """What Numba asks of an intrinsic, from a function of LLVM's builder and the values it is called with."""

    def generate(context, builder, signature, values):
        result = emit(builder, *values)
        return context.get_dummy_value() if signature.return_type == types.void else result

    return generate


def about(builder, instruction, role, row=None):
    """Say which memory it is about: what `load` reads, what `store` writes, or "scratch" memory.

    None of them overlap, so that no loop has to find out; nor do the rows of `store_row`.
    """
    module = builder.module
    domain, of_rows = module.add_metadata(["softgrad"]), module.add_metadata(["rows"])
    own, written = (module.add_metadata([name, domain]) for name in ("scratch", "written"))
    here, elsewhere = {
        "load": ([], [written, own]),
        "store": ([written], [own]),
        "scratch": ([own], [written]),
    }[role]
    if row is not None:
        rows = [module.add_metadata([f"row {i}", of_rows]) for i in range(4)]
        here, elsewhere = [*here, rows.pop(row)], elsewhere + rows
    if here:
        instruction.set_metadata("alias.scope", module.add_metadata(here))
    instruction.set_metadata("noalias", module.add_metadata(elsewhere))
    return instruction


def computed(element):
    """The type that an element is computed in; a mask's stays what it is."""
    return types.float32 if element in (FLOAT16, BFLOAT16) else element


@intrinsic
def load(typing, pointer, index):
    """pointer[index], in the type that it is computed in."""
    element = pointer.dtype

    @code
    def emit(builder, pointer, index):
        value = about(builder, builder.load(builder.gep(pointer, [index])), "load")
        if element == FLOAT16:
            return builder.fpext(builder.bitcast(value, HALF), F32)
        if element == BFLOAT16:
            return builder.bitcast(builder.shl(builder.zext(value, I32), I32(16)), F32)
        return value

    return computed(element)(pointer, index), emit


def rounded(builder, element, value):
    """What `computed(element)` holds, as an element's bits; to the nearest, ties to even."""
    if element == FLOAT16:
        return builder.bitcast(builder.fptrunc(value, HALF), I16)
    if element == BFLOAT16:
        bits = builder.bitcast(value, I32)
        odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
        nearest = builder.add(bits, builder.add(odd, I32(0x7FFF)))
        of_nan = builder.or_(bits, I32(0x400000))  # which would overflow
        nearest = builder.select(builder.fcmp_unordered("uno", value, value), of_nan, nearest)
        return builder.trunc(builder.lshr(nearest, I32(16)), I16)
    return value


@intrinsic
def store(typing, pointer, index, value):
    """pointer[index] = value, rounded once."""
    element = pointer.dtype

    @code
    def emit(builder, pointer, index, value):
        value = rounded(builder, element, value)
        about(builder, builder.store(value, builder.gep(pointer, [index])), "store")

    return types.void(pointer, index, computed(element)), emit


@intrinsic(prefer_literal=True)
def store_row(typing, pointer, index, value, row):
    """The same in row 0, 1, 2 or 3 of the four that a loop writes side by side."""
    element, number = pointer.dtype, row.literal_value

    @code
    def emit(builder, pointer, index, value, row):
        value = rounded(builder, element, value)
        about(builder, builder.store(value, builder.gep(pointer, [index])), "store", number)

    return types.void(pointer, index, computed(element), row), emit


@intrinsic
def kept(typing, pointer, index):
    """pointer[index], of scratch memory that is written by `keep` alone."""
    return pointer.dtype(pointer, index), code(
        lambda builder, pointer, index: about(builder, builder.load(builder.gep(pointer, [index])), "scratch")
    )


@intrinsic
def keep(typing, pointer, index, value):
    """pointer[index] = value, of scratch memory that is read by `kept` alone."""

    @code
    def emit(builder, pointer, index, value):
        about(builder, builder.store(value, builder.gep(pointer, [index])), "scratch")

    return types.void(pointer, index, pointer.dtype), emit


@intrinsic
def zero(typing, pointer):
    """0 in the type that the elements of a pointer are computed in."""
    result = computed(pointer.dtype)
    return result(pointer), lambda context, *_: context.get_constant(result, 0.0)


@intrinsic
def is_narrow(typing, pointer):
    """Whether its elements are computed in a wider type; a constant."""
    narrow = computed(pointer.dtype) != pointer.dtype
    return types.boolean(pointer), lambda context, *_: context.get_constant(types.boolean, narrow)


@intrinsic
def bytes_of(typing, pointer):
    """How many an element has; a constant."""
    size = pointer.dtype.bitwidth // 8
    return types.uint64(pointer), lambda context, *_: context.get_constant(types.uint64, size)


@intrinsic
def pointer_to(typing, address, like):
    """An address as a pointer of another's type; with a number for `like`, to numbers of its type."""
    result = like if isinstance(like, types.CPointer) else types.CPointer(like)

    def generate(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(result))

    return result(types.int64, like), generate


@intrinsic
def address_of(typing, pointer):
    """The address that a pointer holds."""
    return types.int64(pointer), code(lambda builder, pointer: builder.ptrtoint(pointer, I64))


@intrinsic
def after(typing, pointer, index):
    """A pointer to pointer[index]."""
    return pointer(pointer, index), code(lambda builder, pointer, index: builder.gep(pointer, [index]))


@intrinsic
def plus(typing, a, b):
    """a + b, of a sum whose order is LLVM's."""
    return a(a, a), code(lambda builder, a, b: builder.fadd(a, b, flags=SUM))


@intrinsic
def plus_product(typing, a, b, c):
    """a + b·c, of a sum whose order is LLVM's, rounded once where the machine has such an instruction."""
    return a(a, a, a), code(
        lambda builder, a, b, c: builder.fadd(a, builder.fmul(b, c, flags=("contract",)), flags=SUM)
    )


def call_llvm(builder, name, numbers, flags=()):
    """LLVM's own function of this name, of numbers of one type."""
    number = numbers[0].type
    kind = ir.FunctionType(number, [number] * len(numbers))
    return builder.call(builder.module.declare_intrinsic(name, [number], kind), numbers, fastmath=flags)


@intrinsic
def larger(typing, a, b):
    """The larger one; of a NaN nothing is said."""
    return a(a, a), code(lambda builder, *numbers: call_llvm(builder, "llvm.maximum", numbers, MAXIMUM))


@intrinsic
def fma(typing, a, b, c):
    """a·b + c with one rounding."""
    return a(a, a, a), code(lambda builder, *numbers: call_llvm(builder, "llvm.fma", numbers))


@intrinsic
def choose(typing, condition, a, b):
    """a if condition else b, without a branch, which might stop a loop from being cut into lanes."""
    return a(types.boolean, a, a), code(lambda builder, *values: builder.select(*values))


@intrinsic
def power_of_two(typing, number, shift):
    """The float whose bits are those of `number`, shifted to the left."""
    integer = I32 if number == types.float32 else I64

    @code
    def emit(builder, number, shift):
        shifted = builder.shl(builder.bitcast(number, integer), builder.trunc(shift, integer))
        return builder.bitcast(shifted, number.type)

    return number(number, types.int64), emit


@intrinsic
def bits(typing, number):
    """The bits of a float64 as a whole number, or of a whole number as a float64."""
    result, kind = (types.int64, I64) if number == types.float64 else (types.float64, F64)
    return result(number), code(lambda builder, number: builder.bitcast(number, kind))


def call_address(builder, address, result, values):
    """The function at an address."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), values)


@intrinsic
def call(typing, function, *arguments):
    """Call the kernel at an address."""

    @code
    def emit(builder, function, given):
        values = [builder.extract_value(given, i) for i in range(len(arguments))]
        call_address(builder, function, ir.VoidType(), values)

    return types.void(types.int64, types.StarArgTuple.from_types(arguments)), emit


@intrinsic
def ask(typing, function, *arguments):
    """The address that the function at an address returns."""

    @code
    def emit(builder, function, given):
        values = [builder.extract_value(given, i) for i in range(len(arguments))]
        return call_address(builder, function, I64, values)

    return types.int64(types.int64, types.StarArgTuple.from_types(arguments)), emit


def flag_at(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def read_flag(typing, address):
    """The int64 that another thread writes by `write_flag`, and with it all that was written before."""
    return types.int64(types.int64), code(
        lambda builder, address: builder.load_atomic(flag_at(builder, address), "acquire", 8)
    )


@intrinsic
def write_flag(typing, address, value):
    """For `read_flag` of another thread."""
    return types.void(types.int64, types.int64), code(
        lambda builder, address, value: builder.store_atomic(value, flag_at(builder, address), "release", 8)
    )


@intrinsic
def pause(typing):
    """Let the other thread of a core have it for some cycles."""

    @code
    def emit(builder):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", [], kind), [])

    return types.void(), emit
