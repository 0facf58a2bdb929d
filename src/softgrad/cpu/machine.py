"""What the kernels need of Python and of the processor; without it `fallback.py` does the work."""

from __future__ import annotations

import functools
import re

from .. import threads

# What is needed, of which dtypes (none: all), and the functions that LLVM calls where the processor has no
# such instruction: slow ones, or none that is there.  An x86-64 of 2013 has them, and so has any 64-bit ARM.
NEEDS = (
    ("a fused multiply-add (FMA)", (), r"\bfmaf?\b"),
    ("conversions of float16 (F16C)", ("float16",), r"__\w*(?:hfsf2|sfhf2|h2f|f2h)"),
)
PROBE = """
    declare float @llvm.fma.f32(float, float, float)
    define half @probe(float %a, half %b) {
        %wide = fpext half %b to float
        %c = call float @llvm.fma.f32(float %a, float %wide, float %a)
        %narrow = fptrunc float %c to half
        ret half %narrow
    }
"""


@functools.cache
def numba_lacks() -> str | None:
    """Why Numba can't compile anything here, if that is so."""
    with threads.first_use:
        try:
            from numba import config
        except (ImportError, OSError) as error:  # Numba looks at the versions of Python, NumPy and llvmlite
            return f"Numba can't be imported ({error}): install a release of it for this Python and NumPy"
    return "NUMBA_DISABLE_JIT is set: unset it" if config.DISABLE_JIT else None


@functools.cache
def lacks(dtype: str) -> str | None:
    """What is missing for kernels of this dtype, and what to do about it; None if nothing is."""
    missing = numba_lacks()
    if missing:
        return missing
    code, processor = assembly()
    for what, dtypes, functions in NEEDS:
        if (not dtypes or dtype in dtypes) and re.search(functions, code):
            other = "another machine or float32" if dtypes else "another machine"
            return (
                f"the processor that Numba compiles for ({processor}) has no instruction for {what}: "
                f"use {other}, or correct NUMBA_CPU_NAME and NUMBA_CPU_FEATURES if set"
            )
    return None


@functools.cache
def assembly() -> tuple[str, str]:
    """`PROBE` as Numba would have it made into machine code, and for which processor."""
    with threads.first_use:
        from llvmlite import binding
        from numba import config

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        name, features = config.CPU_NAME or binding.get_host_cpu_name(), config.CPU_FEATURES
        if features is None:
            host = binding.get_host_cpu_features()
            if not config.ENABLE_AVX:
                host.update(dict.fromkeys([key for key in host if key.startswith("avx")], False))
            features = host.flatten()
        made_for = binding.Target.from_default_triple().create_target_machine(
            cpu=name, features=features, opt=0
        )
        code: str = made_for.emit_assembly(binding.parse_assembly(PROBE))
        chosen = "the host's" if config.CPU_FEATURES is None else repr(config.CPU_FEATURES)
        return code, f"{name}, features {chosen}"
