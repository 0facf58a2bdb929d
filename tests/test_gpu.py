"""The Triton kernels: interpreted on CPU tensors, compiled for GPUs that are not there, and run where there
is one.

The same cases serve the interpreter and a GPU.  The interpreter is chosen when Triton is first imported, so
what it runs is in processes of their own: gpu_cases.py for each dtype; and gpu_compiled.py, which has a
driver of its own.
"""

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import softgrad

HERE = Path(__file__).parent
triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or importlib.util.find_spec("torch") is None,
    reason="Triton is not installed (it is published for Linux)",
)
DTYPES = "float32", "float64", "float16", "bfloat16"


ARCHITECTURES = "90", "80"
OLDEST = Path(os.environ.get("OLDEST_TRITON", ""))  # the folder of `make test-compat`


def run(file, *arguments, interpreted, path=()):
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpreted else "0"}
    environment["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, HERE / file, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@triton
@pytest.mark.parametrize("dtype", DTYPES)
def test_interpreted(dtype):
    assert "checks hold" in run("gpu_cases.py", "cpu", dtype, interpreted=True)


@pytest.mark.gpu
@triton
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_gpu(dtype):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    assert "checks hold" in run("gpu_cases.py", "cuda", dtype, interpreted=False)


@triton
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture):
    """Within the table's registers, without a spill, and with loads of 16 bytes."""
    assert "kernels compiled" in run("gpu_compiled.py", architecture, interpreted=False)


@triton
@pytest.mark.skipif(
    not list(OLDEST.glob("triton-3.6*")),
    reason="OLDEST_TRITON names no folder with Triton 3.6: make test-compat installs it, if pip can",
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled_by_the_oldest_triton(architecture):
    out = run("gpu_compiled.py", architecture, interpreted=False, path=[str(OLDEST)])
    assert "kernels compiled by Triton 3.6" in out


# how many of its arguments go to an fma
FMA = {"tl.fma": 3, "poly": 2}


@triton
def test_no_constant_of_an_fma_is_rounded():
    """Before 3.9 Triton's tl.fma takes a constant for a float32, in float64 too; PyTorch 2.13 brings 3.7."""
    seen = 0
    for file in (Path(softgrad.__file__).parent / "gpu").glob("[a-z]*.py"):
        module = importlib.import_module(f"softgrad.gpu.{file.stem}")
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            for argument in call.args[: FMA.get(ast.unparse(call.func), 0)]:
                value = constant(argument, vars(module))
                assert value is None or value == float(np.float32(value)), f"{file}: {ast.unparse(call)}"
                seen += 1
    assert seen > 60


def constant(expression, names):
    """The value of an expression of numbers and constants, and None of any other."""
    known = {name: value.value for name, value in names.items() if hasattr(value, "value")}
    try:
        return float(eval(ast.unparse(expression), {}, known))
    except (NameError, TypeError):
        return None


def test_softgrad_does_without_triton():
    code = "import sys, softgrad; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
