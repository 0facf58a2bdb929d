"""float16 to float32 and back, for processors with instructions for it and for those without.

LLVM calls a function for what a processor lacks, which is not there in a program that Numba made: the
process would end with "Symbol not found".
"""

import platform

import llvmlite.binding
from llvmlite import ir
from numba.core import config

i32 = ir.IntType(32)


def in_hardware():
    """Whether the processor that Numba compiles for converts float16 itself."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    if config.CPU_NAME:  # chosen by NUMBA_CPU_NAME, to run elsewhere too
        return "+f16c" in (config.CPU_FEATURES or "")
    return llvmlite.binding.get_host_cpu_features().get("f16c", False)


def like(vector, element):
    return ir.VectorType(element, vector.type.count)


def every(vector, number):
    """The constant vector of i32 with `number` in each lane."""
    return ir.Constant(like(vector, i32), [number] * vector.type.count)


def to_single(builder, half):
    """The float32 of a vector of i16 that hold the bits of float16."""
    if in_hardware():
        return builder.fpext(builder.bitcast(half, like(half, ir.HalfType())), like(half, ir.FloatType()))
    wide = builder.zext(half, like(half, i32))
    # exponent and mantissa in the places of a float32 are the number times 2⁻¹¹², subnormal or not
    magnitude = builder.shl(builder.and_(wide, every(wide, 0x7FFF)), every(wide, 13))
    scale = ir.Constant(like(half, ir.FloatType()), [2.0**112] * half.type.count)
    finite = builder.fmul(builder.bitcast(magnitude, scale.type), scale)
    special = builder.icmp_unsigned(">=", magnitude, every(wide, 0x7C00 << 13))  # inf and NaN
    magnitude = builder.select(
        special, builder.or_(magnitude, every(wide, 0x7F800000)), builder.bitcast(finite, wide.type)
    )
    sign = builder.shl(builder.and_(wide, every(wide, 0x8000)), every(wide, 16))
    return builder.bitcast(builder.or_(magnitude, sign), scale.type)


def to_half(builder, single):
    """The bits of the nearest float16 (ties to even) of a vector of float32, as i16."""
    if in_hardware():
        return builder.bitcast(
            builder.fptrunc(single, like(single, ir.HalfType())), like(single, ir.IntType(16))
        )
    whole = builder.bitcast(single, like(single, i32))
    magnitude = builder.and_(whole, every(whole, 0x7FFFFFFF))
    # normal numbers: add half a unit of the last place that stays, less one bit where that is even
    last = builder.and_(builder.lshr(magnitude, every(whole, 13)), every(whole, 1))
    rounded = builder.add(builder.add(magnitude, every(whole, 0xFFF)), last)
    normal = builder.lshr(builder.sub(rounded, every(whole, 0x38000000)), every(whole, 13))
    # subnormal ones: one half has the ulp 2⁻²⁴, the smallest float16, so adding it rounds to multiples
    half = ir.Constant(single.type, [0.5] * single.type.count)
    added = builder.fadd(builder.bitcast(magnitude, single.type), half)
    small = builder.sub(builder.bitcast(added, whole.type), every(whole, 0x3F000000))
    result = builder.select(builder.icmp_unsigned("<", magnitude, every(whole, 0x38800000)), small, normal)
    too_large = builder.icmp_unsigned(">=", magnitude, every(whole, 0x477FF000))
    result = builder.select(too_large, every(whole, 0x7C00), result)
    is_nan = builder.icmp_unsigned(">", magnitude, every(whole, 0x7F800000))
    result = builder.select(is_nan, every(whole, 0x7E00), result)
    sign = builder.and_(builder.lshr(whole, every(whole, 16)), every(whole, 0x8000))
    return builder.trunc(builder.or_(result, sign), like(single, ir.IntType(16)))
