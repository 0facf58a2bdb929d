"""float16 in and out of the kernels, by instructions and, where a processor has none, without."""

import os
import subprocess
import sys

PROGRAM = """
import numba, numpy as np
from softgrad.kernels.cpu import half
from softgrad.kernels.cpu.buffer import buffer
from softgrad.kernels.cpu.memory import load, store
from softgrad.kernels.cpu.vec import LANES

assert half.in_hardware() is {hardware}

@numba.njit
def copy(source, target):
    for at in range(0, source.size, LANES):
        store(buffer(target), at, load(buffer(source), at, LANES, 0.0), LANES)

every = np.arange(2**16, dtype=np.uint16)
single = np.empty(every.size, np.float32)
copy(every, single)
expected = every.view(np.float16).astype(np.float32)
is_nan = np.isnan(expected)
assert (single.view(np.uint32)[~is_nan] == expected.view(np.uint32)[~is_nan]).all()
assert np.isnan(single[is_nan]).all()

# any bits, numbers of every size around the range, and all ties between two neighbours
rng = np.random.default_rng(0)
values = rng.integers(0, 2**32, 2**18, dtype=np.uint32).view(np.float32)
sizes = (rng.normal(size=2**17) * 10.0 ** rng.integers(-9, 6, 2**17)).astype(np.float32)
finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
ties = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
values = np.concatenate([values, sizes, ties, -ties, np.float32([65519.99, 65520])])
values = np.resize(values, -(-values.size // LANES) * LANES)
rounded = np.empty(values.size, np.uint16)
copy(values, rounded)
with np.errstate(all="ignore"):
    expected = values.astype(np.float16)
is_nan = np.isnan(expected)
assert (rounded[~is_nan] == expected.view(np.uint16)[~is_nan]).all()
assert np.isnan(rounded.view(np.float16)[is_nan]).all()
"""


def run(hardware, **environment):
    program = [sys.executable, "-c", PROGRAM.format(hardware=hardware)]
    done = subprocess.run(program, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_float16_and_every_rounding_here():
    from softgrad.kernels.cpu import half

    run(half.in_hardware())


def test_every_float16_and_every_rounding_without_instructions_for_them():
    """A plain x86-64, for which LLVM would call a function that is not there."""
    import platform

    run(platform.machine() not in ("x86_64", "AMD64"), NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
