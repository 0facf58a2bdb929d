"""A vector of numbers as a Numba value: what the kernels are written in.

A `Vec` holds ``LANES`` numbers of one type in the machine's vector registers.  ``+ - * /`` and the
comparisons work lane by lane (a plain number stands for itself in every lane); the functions below do
the rest.  LLVM cuts a `Vec` into the registers that a machine has, so one source serves AVX-512, AVX2
and NEON.  Nothing is left to a loop vectoriser and no ``fastmath`` is on: every sum has one order, the
same bits on every run, and every rounding error is where the kernel put it.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 32

i8, i32 = ir.IntType(8), ir.IntType(32)


class Vec(types.Type):
    """The Numba type of `LANES` values of `dtype` (float32, float64, int32, int64 or boolean)."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Vec({dtype})")


def llvm_vector(dtype):
    """The LLVM type of a `Vec` of `dtype`."""
    if isinstance(dtype, types.Float):
        return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), LANES)
    return ir.VectorType(ir.IntType(1 if dtype == types.boolean else dtype.bitwidth), LANES)


@register_model(Vec)
class VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, llvm_vector(fe_type.dtype))


def call(builder, intrinsic_name, result, *args):
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, intrinsic_name), args)


# --- a number in every lane -----------------------------------------------------------------------


def broadcast(builder, scalar, lanes=LANES):
    """The LLVM vector with `scalar` in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, scalar, i32(0))
    return builder.shuffle_vector(first, empty, ir.VectorType(i32, lanes)([0] * lanes))


def lanes_of(context, builder, value, given, dtype):
    """The LLVM vector of `dtype` for `value`, which is a Vec or a number."""
    if isinstance(given, Vec):
        return value
    return broadcast(builder, context.cast(builder, value, given, dtype))


@intrinsic
def splat(typingctx, number, like):
    """A Vec of the type of `like` with `number` in every lane."""

    def codegen(context, builder, sig, args):
        return lanes_of(context, builder, args[0], sig.args[0], like.dtype)

    return like(number, like), codegen


# --- lane by lane ---------------------------------------------------------------------------------

ARITHMETIC = {operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.truediv: "div"}
BITWISE = {operator.and_: "and_", operator.or_: "or_", operator.lshift: "shl", operator.rshift: "ashr"}
COMPARISON = {operator.lt: "<", operator.gt: ">", operator.eq: "==", operator.ne: "!="}


def vec_among(args):
    """The Vec type of an operation: its operands are Vecs of one type, or one of them and a number."""
    vecs = [a for a in args if isinstance(a, Vec)]
    same = vecs and all(v == vecs[0] for v in vecs)
    return vecs[0] if same and all(isinstance(a, (Vec, types.Number)) for a in args) else None


def declare(op, instruction):
    """Teach Numba the operator `op` on Vecs."""

    @infer_global(op)
    class Typing(AbstractTemplate):
        def generic(self, args, kws):
            vec = vec_among(args)
            if vec is None:
                return None
            return signature(Vec(types.boolean) if op in COMPARISON else vec, *args)

    def lower(context, builder, sig, args):
        dtype = vec_among(sig.args).dtype
        a, b = (lanes_of(context, builder, v, t, dtype) for v, t in zip(args, sig.args, strict=True))
        is_float = isinstance(dtype, types.Float)
        if op in COMPARISON:  # with a NaN in it, a comparison is false, and only "!=" is true
            if not is_float:
                return builder.icmp_signed(instruction, a, b)
            compare = builder.fcmp_unordered if op is operator.ne else builder.fcmp_ordered
            return compare(instruction, a, b)
        return getattr(builder, "f" + instruction if is_float else instruction)(a, b)

    for left, right in ((Vec, Vec), (Vec, types.Number), (types.Number, Vec)):
        lower_builtin(op, left, right)(lower)


for _op, _instruction in {**ARITHMETIC, **BITWISE, **COMPARISON}.items():
    declare(_op, _instruction)


@intrinsic
def fma(typingctx, a, b, c):
    """a·b + c, rounded once."""
    vec = vec_among((a, b, c))
    dtype, name = (vec.dtype, f"v{LANES}f") if vec else (a, "f")

    def codegen(context, builder, sig, args):
        values = [lanes_of(context, builder, v, t, dtype) for v, t in zip(args, sig.args, strict=True)]
        if vec is None:
            values = [context.cast(builder, v, t, dtype) for v, t in zip(args, sig.args, strict=True)]
        return call(builder, f"llvm.fma.{name}{dtype.bitwidth}", values[0].type, *values)

    return (vec or dtype)(a, b, c), codegen


@intrinsic
def select(typingctx, mask, yes, no):
    """`yes` in the lanes where `mask` is true, `no` in the others; of two numbers one, for a bool."""
    vec = vec_among((yes, no))
    result = vec or typingctx.unify_types(yes, no)

    def codegen(context, builder, sig, args):
        pair = zip(args[1:], sig.args[1:], strict=True)
        if vec is None:
            return builder.select(args[0], *(context.cast(builder, v, t, result) for v, t in pair))
        mask = args[0] if isinstance(sig.args[0], Vec) else broadcast(builder, args[0])
        return builder.select(mask, *(lanes_of(context, builder, v, t, vec.dtype) for v, t in pair))

    return result(mask, yes, no), codegen


@intrinsic
def root(typingctx, value):
    """The square root, rounded once."""
    vec = value if isinstance(value, Vec) else None
    dtype, name = (vec.dtype, f"v{LANES}f") if vec else (value, "f")

    def codegen(context, builder, sig, args):
        return call(builder, f"llvm.sqrt.{name}{dtype.bitwidth}", args[0].type, *args)

    return value(value), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of a and b; b where one of them is NaN (one instruction on x86)."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@intrinsic
def smaller(typingctx, a, b):
    """The smaller of a and b; b where one of them is NaN (one instruction on x86)."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return a(a, b), codegen


# --- from one type of lanes to another --------------------------------------------------------------

SAME_BITS = {
    types.float32: types.int32,
    types.float64: types.int64,
    types.int32: types.float32,
    types.int64: types.float64,
}


@intrinsic
def bits(typingctx, value):
    """The bits of floats as integers, or of integers as floats."""
    other = SAME_BITS[value.dtype]

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], llvm_vector(other))

    return Vec(other)(value), codegen


@intrinsic
def as_type_of(typingctx, value, like):
    """`value` in the type of the numbers in `like`: exact where that is wider, rounded where narrower.

    Either may be a Vec or a number; the result is what `value` is.
    """
    source, target = (t.dtype if isinstance(t, Vec) else t for t in (value, like))
    result = Vec(target) if isinstance(value, Vec) else target

    def codegen(context, builder, sig, args):
        if source == target:
            return args[0]
        change = builder.fpext if target.bitwidth > source.bitwidth else builder.fptrunc
        return change(args[0], context.get_value_type(result))

    return result(value, like), codegen


@intrinsic
def double(typingctx):
    """The float64 Vec of zeros."""

    def codegen(context, builder, sig, args):
        return ir.Constant(llvm_vector(types.float64), None)

    return Vec(types.float64)(), codegen


@intrinsic
def every_lane(typingctx):
    """The mask that is true in every lane."""

    def codegen(context, builder, sig, args):
        return llvm_vector(types.boolean)([1] * LANES)

    return Vec(types.boolean)(), codegen


# --- over the lanes -------------------------------------------------------------------------------


def fold(builder, value, combine, parts=1):
    """Combine the upper half of the lanes of each part with the lower half until one is left of each."""
    width = LANES // parts
    while width > 1:
        width //= 2
        index = ir.VectorType(i32, width * parts)
        lower = [2 * width * part + lane for part in range(parts) for lane in range(width)]
        upper = [lane + width for lane in lower]
        value = combine(*(builder.shuffle_vector(value, value, index(half)) for half in (lower, upper)))
    return value


def exchange(width):
    """An intrinsic: a Vec with each `width` lanes exchanged with the next."""

    @intrinsic
    def exchanged(typingctx, value):
        def codegen(context, builder, sig, args):
            index = ir.VectorType(i32, LANES)([lane ^ width for lane in range(LANES)])
            return builder.shuffle_vector(args[0], args[0], index)

        return value(value), codegen

    return exchanged


by_16, by_8, by_4, by_2, by_1 = (exchange(width) for width in (16, 8, 4, 2, 1))


@intrinsic
def sum_of(typingctx, value):
    """The sum over the lanes, by halves."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(fold(builder, args[0], builder.fadd), i32(0))

    return value.dtype(value), codegen


@intrinsic
def max_of(typingctx, value):
    """The largest of the lanes."""

    def codegen(context, builder, sig, args):
        found = fold(builder, args[0], lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
        return builder.extract_element(found, i32(0))

    return value.dtype(value), codegen


@intrinsic
def first_of(typingctx, value):
    """Lane 0."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], i32(0))

    return value.dtype(value), codegen


@intrinsic
def any_of(typingctx, mask):
    """Whether the mask is true in any lane; a bool is what it is."""

    def codegen(context, builder, sig, args):
        if not isinstance(sig.args[0], Vec):
            return args[0]
        whole = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", whole, whole.type(0))

    return types.boolean(mask), codegen


@intrinsic
def all_of(typingctx, mask):
    """Whether the mask is true in every lane; a bool is what it is."""

    def codegen(context, builder, sig, args):
        if not isinstance(sig.args[0], Vec):
            return args[0]
        whole = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("==", whole, whole.type(-1))

    return types.boolean(mask), codegen


ALL_LANES = 2**LANES - 1


@intrinsic
def lanes_where(typingctx, mask):
    """The lanes in which the mask is true as the bits of a whole number, lane 0 the lowest."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))

    return types.int64(mask), codegen


@intrinsic
def lowest_bit(typingctx, number):
    """The place of the lowest bit of a whole number that is not 0."""

    def codegen(context, builder, sig, args):
        return call(builder, "llvm.cttz.i64", args[0].type, args[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen
