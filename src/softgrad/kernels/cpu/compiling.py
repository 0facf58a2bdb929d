"""How a kernel becomes machine code: when it is first called, kept on disk where that can be."""

import functools
import gc
import pathlib
import zlib

import numba
import numba.extending
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class Part(JITCodeLibrary):
    """The code of a function that only goes into others.

    Numba would optimise it as if it were called from Python and make machine code of it, for each of the
    fifty functions of a kernel, though only the kernel itself is run: 40 % of the time to compile one.
    """

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True

    @property
    def codegen(self):
        return self

    def set_env(self, name, environment):
        """What Numba would write into the machine code."""


class PartCompiler(Compiler):
    def __init__(self, typing_context, target_context, library, *rest):
        super().__init__(typing_context, target_context, Part(target_context.codegen(), "part"), *rest)


# A function that kernels are made of: its code goes where it is called, so that its vectors stay in
# registers.  Division by zero gives what IEEE 754 says, not an exception.
INLINE = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "forceinline": True,
    "pipeline_class": PartCompiler,
}
inline = numba.njit(**INLINE)


def per_type(stub):
    """`numba.extending.overload` for such functions: an implementation for each type of argument."""
    return numba.extending.overload(stub, jit_options=INLINE)


@functools.cache
def stamp():
    """A number that changes with any of the kernels' sources (Numba looks at one file only)."""
    folder = pathlib.Path(__file__).parent
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))))


def compiled(function, *signature):
    """`function` as machine code for arguments of these Numba types; it does not hold the GIL."""
    options = {"error_model": "numpy", "nogil": True}
    collecting = gc.isenabled()
    gc.disable()  # a compiler makes many objects and few rounds of garbage: 10 % of the time
    function.__qualname__ = f"{function.__name__}_{stamp():08x}"  # names the file in the cache
    try:
        return numba.njit([signature], cache=True, **options)(function)
    except Exception:
        # no folder can be written to, or what is in it is damaged: compile for this process alone (what is
        # wrong with the kernel itself is raised from there)
        return numba.njit([signature], **options)(function)
    finally:
        if collecting:
            gc.enable()
