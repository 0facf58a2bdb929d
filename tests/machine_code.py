"""What LLVM made of the kernels, kept when any test compiles one: to compile takes seconds, and of what Numba
has from its cache it tells nothing.  test_machine.py reads it.
"""

import functools
import hashlib
import os

import numba

import softgrad
from softgrad.cpu import kernels, machine


@functools.cache
def place(folder, function, arguments):
    """The file for a function with arguments of these types, of these sources and on this machine."""
    state = numba.__version__, *machine.assembly(), softgrad.__file__
    key = *state, function.__module__, function.__qualname__, *map(str, arguments)
    return folder / f"{kernels.stamp():08x}-{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.ll"


def keep_in(folder):
    """Keep the code of each kernel that this process compiles, and none of other sources."""
    for file in folder.iterdir():
        if not file.name.startswith(f"{kernels.stamp():08x}"):
            file.unlink(missing_ok=True)
    compiled = kernels.compiled

    def compiled_and_kept(function, *arguments):
        before = len(kernels.KEPT)
        address = compiled(function, *arguments)
        if len(kernels.KEPT) > before and not kernels.KEPT[-1].cache_hits:
            keep(kernels.KEPT[-1], place(folder, function, arguments))
        return address

    kernels.compiled = compiled_and_kept


def keep(made, file):
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(made.inspect_llvm())
    part.replace(file)


def code_of(folder, function, *arguments):
    """Optimised LLVM code of a function that returns nothing."""
    file = place(folder, function, arguments)
    if not file.exists():
        keep(numba.cfunc(numba.types.void(*arguments), error_model="numpy")(function), file)
    code = file.read_text()
    assert "define " in code
    return code
