"""What test_gpu.py runs in a process of its own: python gpu_compiled.py 90 | 80.

The kernels are compiled for a GPU that is not there, and what came out is looked at.  Then Triton's own
launcher launches them, by a library of CUDA's driver that does nothing: so their arguments can be passed.
"""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.backends.nvidia.compiler import get_ptxas
from triton.runtime import driver

from softgrad import gpu
from softgrad.gpu import functions, launch, long, rows, sparse

LIBRARY = """
#include <stddef.h>
int launches;
int cuPointerGetAttribute(size_t *data, int attribute, size_t pointer) { *data = pointer; return 0; }
int cuCtxGetCurrent(size_t *context) { *context = 1; return 0; }
int cuLaunchKernelEx(void *config, void *function, void **parameters, void **extra) { launches++; return 0; }
"""


def without_a_gpu(folder):
    """Build the library of CUDA's driver that Triton will find, and return how to ask for its launches."""
    source = "".join(file.read_text() for file in Path(nvidia.__file__).parent.glob("driver.*"))
    names = set(re.findall(r"\bcu[A-Z]\w+(?=\()", source)) - set(re.findall(r"cu\w+", LIBRARY))
    text = LIBRARY + "".join(f"int {name}() {{ return 0; }}\n" for name in sorted(names))
    path = folder / "libcuda.so.1"
    shared = ["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", path]
    subprocess.run([os.environ.get("CC", "cc"), "-x", "c", "-", *shared], input=text, text=True, check=True)
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)
    return ctypes.c_int.in_dll(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL), "launches")


class Driver:
    """Of an H100, or an A100."""

    launcher_cls = nvidia.CudaLauncher

    def __init__(self, architecture):
        self.target = GPUTarget("cuda", architecture, 32)
        self.utils = nvidia.CudaUtils()
        self.utils.get_device_properties = lambda device: {"max_shared_mem": 160 * 1024}
        self.utils.load_binary = lambda name, binary, shared, device: (1, 1, 0, 0, 1024)
        self.utils.unload_module = lambda module: None

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


# A tile that fits into registers but for some bytes; of the others a few bytes of addresses may be spilt.
HELD_BARELY = "tensor<1x32768xf32"
READ = {"vjp": 2, "jvp": 2, "backward": 3}
BOTH = torch.float32, torch.bfloat16
SINGLE, DOUBLE = (torch.float32,), (torch.float64,)
STEEP = {"alpha": 3.0}  # beyond 2
FEW = 64  # lines: too few to fill the chip, so that each is cut into parts

# A row for each size of the tables in launch.py, and each way through the kernels: lines, n, the registers
# that a thread takes at most (a multiprocessor has 65,536: with 128 it holds 16 warps), dtypes, options.
Row = tuple[str, int, int, int, tuple[torch.dtype, ...], dict[str, Any]]
TABLE: list[Row] = [
    ("softmax", 10**5, 64, 40, BOTH, {}),
    ("softmax", 10**5, 1000, 40, BOTH, {}),
    ("softmax", 10**4, 4096, 48, BOTH, {}),
    ("softmax", 10**4, 16384, 96, BOTH, {}),
    ("softmax", 10**4, 32768, 128, BOTH, {}),
    ("softmax", FEW, 262144, 104, BOTH, {}),
    ("log_softmax", 10**4, 4096, 80, SINGLE, {}),
    ("softmax_vjp", 10**5, 64, 56, BOTH, {}),
    ("softmax_vjp", 10**5, 1000, 56, BOTH, {}),
    ("softmax_vjp", 10**4, 4096, 64, BOTH, {}),
    ("softmax_vjp", 10**4, 8192, 120, BOTH, {}),
    ("softmax_vjp", 10**4, 16384, 120, BOTH, {}),
    ("softmax_vjp", FEW, 262144, 112, BOTH, {}),
    ("softmax_vjp", 128, 10**4, 80, SINGLE, {"axis": 0}),
    ("log_softmax_vjp", 10**4, 4096, 64, SINGLE, {}),
    ("log_softmax_vjp", FEW, 262144, 160, SINGLE, {}),
    ("log_softmax_jvp", 10**4, 2048, 72, SINGLE, {}),
    ("sparsemax", 10**4, 8192, 104, SINGLE, {}),
    ("entmax", 10**4, 4096, 112, SINGLE, {}),
    ("entmax", 128, 10**4, 200, SINGLE, STEEP),
    ("entmax_vjp", 10**4, 4096, 64, SINGLE, {}),
    ("softmax_double_backward", 10**4, 4096, 96, SINGLE, {}),
    ("entmax_double_backward", 10**4, 2048, 64, SINGLE, {}),
]
# and these for one architecture, since they take the longest
MORE: list[Row] = [
    ("softmax", 10**4, 4096, 152, DOUBLE, {"scale": 0.3}),
    ("softmax_vjp", 10**4, 4096, 128, DOUBLE, {}),
    ("entmax", 128, 2048, 216, SINGLE, STEEP),
    ("softmax_double_backward", FEW, 262144, 160, SINGLE, {"strided": True}),
    ("log_softmax_double_backward", FEW, 262144, 104, SINGLE, {}),
    ("entmax_double_backward", FEW, 262144, 112, SINGLE, {}),
]
KERNELS = rows.softmax, rows.product, rows.double_backward, long.softmax, long.product, sparse.entmax


def call(name, shape, dtype, strided=False, **options):
    count = READ.get(name.rpartition("_")[2], 1)
    given = [torch.empty(shape, dtype=dtype, device="meta") for _ in range(count)]
    if strided:
        given[-1] = torch.empty(*shape, 2, dtype=dtype, device="meta")[..., 0]
    getattr(gpu, name)(*given, **options)


def compiled():
    """The kernels, and what they were compiled to."""
    return [
        (kernel, made)
        for kernel in KERNELS
        if 0 in kernel.device_caches
        for made in kernel.device_caches[0][0].values()
    ]


def look(made, architecture):
    """Registers, bytes that are spilt, and whether there are loads of 16 bytes."""
    ptx = made.asm["ptx"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        name = f"sm_{architecture}{'a' if architecture == 90 else ''}"
        command = [get_ptxas(architecture).path, "-v", f"--gpu-name={name}", file.name, "-o", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilt = int(re.search(r"(\d+) bytes spill stores", told)[1])
    registers = int(re.search(r"Used (\d+) registers", told)[1])
    return registers, spilt, "ld.global.v4.b32" in ptx or "ld.global.v2.b64" in ptx


def main(architecture, folder):
    launches = without_a_gpu(folder)
    driver.set_active(Driver(architecture))
    functions.on = lambda tensor: contextlib.nullcontext()
    launch.processors = lambda device: 132
    seen, used = set(), set()
    for name, count, n, most, dtypes, options in [*TABLE, *(MORE if architecture == 90 else [])]:
        for dtype in dtypes[: 2 if architecture == 90 else 1]:
            before = launches.value
            call(name, (count, n), dtype, **options)
            assert launches.value > before, f"{name} is not launched"
            for kernel, made in compiled():
                if id(made) in seen:
                    continue
                seen.add(id(made))
                used.add(kernel)
                registers, spilt, wide = look(made, architecture)
                print(
                    f"  {name} {count} × {n} {dtype}: {made.metadata.num_warps} warps, {registers} registers"
                )
                assert registers <= most, f"more than {most} registers"
                assert spilt <= (64 if HELD_BARELY in made.asm["ttir"] else 16), f"{spilt} bytes are spilt"
                assert wide, "loads of less than 16 bytes"
    assert used == set(KERNELS), "a kernel is in no row of the table"
    print(len(seen), "kernels compiled by Triton", triton.__version__)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(int(sys.argv[1]), Path(folder))
