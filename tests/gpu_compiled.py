"""What test_gpu.py runs in a process of its own: python gpu_compiled.py 90 | 80.

The kernels are compiled for a GPU that is not there, by a driver for Triton that loads and launches nothing:
what came out is looked at, and what would be launched.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.runtime import driver

from softgrad import gpu
from softgrad.gpu import functions, launch, long, rows, sparse


class Launcher:
    """What Triton calls to launch a kernel."""

    def __init__(self, source, metadata):
        pass

    def __call__(self, *launch):
        pass


class Driver:
    """Of an H100, or an A100."""

    launcher_cls = Launcher
    utils = SimpleNamespace(
        get_device_properties=lambda device: {"max_shared_mem": 160 * 1024},
        load_binary=lambda name, binary, shared, device: (object(), object(), 0, 0, 1024),
        unload_module=lambda module: None,
    )

    def __init__(self, architecture):
        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


# A tile that fits into registers but for some bytes; of the others a few bytes of addresses may be spilt.
HELD_BARELY = "tensor<1x32768xf32"
# name: (rows, n), one for each size of the tables
SHAPES = {
    "softmax": [(10**5, 64), (10**5, 1000), (10**4, 4096), (10**4, 16384), (10**4, 32768), (64, 262144)],
    "log_softmax": [(10**4, 4096)],
    "softmax_vjp": [(10**5, 64), (10**5, 1000), (10**4, 4096), (10**4, 8192), (10**4, 16384), (64, 262144)],
    "log_softmax_vjp": [(10**4, 4096), (64, 262144)],
    "log_softmax_jvp": [(10**4, 2048)],
    "sparsemax": [(10**4, 8192)],
    "entmax": [(10**4, 4096)],
    "entmax_vjp": [(10**4, 4096)],
    "softmax_double_backward": [(10**4, 4096)],
    "entmax_double_backward": [(10**4, 2048)],
}
STEEP = 3.0  # an α beyond 2
READ = {"vjp": 2, "jvp": 2, "backward": 3}
KERNELS = [
    kernel
    for module in (rows, long, sparse)
    for kernel in vars(module).values()
    if isinstance(kernel, triton.JITFunction) and kernel.__module__ == module.__name__
]


def call(name, shape, dtype, *more, **options):
    count = READ.get(name.rpartition("_")[2], 1)
    given = [torch.empty(shape, dtype=dtype, device="meta") for _ in range(count)]
    if options.pop("strided", False):
        given[-1] = torch.empty(*shape, 2, dtype=dtype, device="meta")[..., 0]
    getattr(gpu, name)(*given, *more, **options)


def compiled():
    """What the kernels were compiled to, one by one."""
    for kernel in KERNELS:
        if 0 in kernel.device_caches:
            for made in kernel.device_caches[0][0].values():
                yield kernel, made


def look(kernel, made, architecture):
    ptx = made.asm["ptx"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        name = f"sm_{architecture}{'a' if architecture == 90 else ''}"
        command = [get_ptxas(architecture).path, "-v", f"--gpu-name={name}", file.name, "-o", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilt = int(re.search(r"(\d+) bytes spill stores", told)[1])
    registers = int(re.search(r"Used (\d+) registers", told)[1])
    wide = "ld.global.v4.b32" in ptx or "ld.global.v2.b64" in ptx
    print(f"  {kernel.__name__}: {made.metadata.num_warps} warps, {registers} registers, {spilt} bytes spilt")
    assert spilt <= (64 if HELD_BARELY in made.asm["ttir"] else 16)
    assert wide, "loads of less than 16 bytes"


def main(architecture):
    driver.set_active(Driver(architecture))
    functions.on = lambda tensor: contextlib.nullcontext()
    launch.processors = lambda device: 132
    for name, shapes in SHAPES.items():
        for shape in shapes:
            call(name, shape, torch.float32)
            if architecture == 90 and name in ("softmax", "softmax_vjp"):
                call(name, shape, torch.bfloat16)
    call("softmax_vjp", (128, 10**4), torch.float32, axis=0)
    call("entmax", (128, 10**4), torch.float32, STEEP)
    if architecture == 90:
        call("softmax", (10**4, 4096), torch.float64, scale=0.3)
        call("softmax_vjp", (10**4, 4096), torch.float64)
        call("entmax", (128, 2048), torch.float32, STEEP)
        call("softmax_double_backward", (64, 262144), torch.float32, strided=True)
        call("log_softmax_double_backward", (64, 262144), torch.float32)
        call("entmax_double_backward", (64, 262144), torch.float32)
    found = list(compiled())
    for kernel, made in found:
        look(kernel, made, architecture)
    print(len(found), "kernels compiled by Triton", triton.__version__)


if __name__ == "__main__":
    main(int(sys.argv[1]))
