"""The maps on memory: by the kernels on the CPU, by those in Triton on CUDA, by formulas on other devices.

PyTorch allocates the results.  Arguments are checked already, and dims count from the last.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import shutil
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .. import arrays, checks, formulas, specs, threads
from ..checks import Array
from ..cpu import call
from ..specs import Map, Reduction
from . import composites, fast_path
from .private import is_bare, is_plain_storage, no_derivative, overlaps_itself
from .tensors import array, as_tensor, in_words_of_torch, numpy_dtype, wide

Dims = tuple[int, ...]
NO_MEMORY = "a tensor has no memory: its storage was freed, and has to be filled again first"


# --- the CPU -----------------------------------------------------------------------------------------


def run(
    name: str,
    tensors: tuple[Tensor, ...],
    dims: Dims,
    where: Tensor | None = None,
    scale: float = 1.0,
    fill: float = 0.0,
    more: tuple[float, ...] = (),
    offsets: Array | None = None,
    shaped: int = -1,
) -> None:
    """The operation `name` of `softgrad.cpu`; the last tensor is written.

    Tensor number `shaped` has the shape and dtype of the call.  Others may have one float64 for each row, and
    dims of length 1.
    """
    like = tensors[shaped]
    shape = tuple(like.shape) or (1,)
    check_memory(tensors, like, dims)
    call.run(
        name,
        numpy_dtype(like.dtype).name,
        shape,
        [tensor.data_ptr() for tensor in tensors],
        [strides_for(tensor, shape) for tensor in tensors],
        tuple([d + len(shape) for d in dims]),
        None if where is None else (where.data_ptr(), strides_for(where, shape)),
        scale,
        fill,
        more,
        offsets,
    )


def check_memory(tensors: tuple[Tensor, ...], like: Tensor, dims: Dims) -> None:
    """Refuse what the caller of an operator, or a hook of saved tensors, may bring, and freed storages."""
    kept = torch.Size(kept_shape(like, dims))
    for tensor in tensors:
        per_row = tensor.dtype is torch.float64 and tensor.shape == kept
        if not per_row and (tensor.dtype is not like.dtype or tensor.shape != like.shape):
            raise RuntimeError(
                f"a tensor has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, another "
                f"{tuple(like.shape)} and {like.dtype}; an operation takes the same"
            )
        if not tensor.data_ptr() and tensor.numel():
            raise RuntimeError(NO_MEMORY)


def strides_for(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a tensor of this shape, or of one with dims of length 1, along which there is no step."""
    steps = tensor.stride() or (1,)
    if tensor.shape == shape or not tensor.ndim:
        return steps
    return tuple([step if n == size else 0 for step, n, size in zip(steps, tensor.shape, shape, strict=True)])


def with_torch_threads(function: Any) -> Any:
    """`function` on as many threads as PyTorch may use."""

    @functools.wraps(function)
    def limited(*arguments: Any, **options: Any) -> Any:
        with threads.at_most(torch.get_num_threads()):
            return function(*arguments, **options)

    return limited


# --- functions of NumPy arrays ------------------------------------------------------------------------


def are_memory(*values: Any) -> bool:
    """Whether the kernels may be given these tensors."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return (
        not is_compiling()
        and is_bare()
        and is_plain_storage(*tensors)
        and all(tensor.is_cpu for tensor in tensors)
    )


def take_kernels(*values: Any) -> bool:
    """Whether they may, and no derivative is to follow."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return are_memory(*tensors) and no_derivative(tensors, range(len(tensors)))


@with_torch_threads
def by_kernels(function: Any, *values: Any, **options: Any) -> Any:
    """A function of `softgrad.arrays` on tensors."""
    options = {name: as_array(value) for name, value in options.items()}
    result = in_words_of_torch(lambda: function(*map(as_array, values), **options))
    return tuple(map(as_tensor, result)) if isinstance(result, tuple) else as_tensor(result)


def as_array(value: Any) -> Any:
    if isinstance(value, arrays.Cut):
        return arrays.Cut(*map(as_array, value))
    if isinstance(value, Tensor):
        if not value.data_ptr() and value.numel():
            raise RuntimeError(NO_MEMORY)
        return array(value)
    return value


# --- CUDA --------------------------------------------------------------------------------------------

OLDEST = (8, 0)  # Ampere: the tests compile the kernels for it


@functools.cache
def triton_runs_on(device: torch.device) -> bool:
    """Whether the kernels run there.  Triton needs a C compiler, for the launch of a kernel."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and importlib.util.find_spec("triton") is not None
        and bool(os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc"))
        and torch.cuda.get_device_capability(device) >= OLDEST
    )


def triton(device: torch.device, spec: Map, kernel: str) -> Any:
    """The functions that launch the kernels; None on a device without, where the formulas do the work.

    A Triton that is too old is an ImportError, which says what to do.
    """
    if not triton_runs_on(device):
        threads.ran("formulas", spec.name)
        return None
    from ..gpu import functions

    threads.ran("triton", kernel)
    return functions


def safe_to_write(out: Tensor, *inputs: Tensor) -> bool:
    """Whether a GPU's kernel can write to `out` while it reads these: it is one of them, or other memory.

    By addresses: by DLPack two storages may be the same memory.
    """
    start, stop = extent(out)
    for tensor in inputs:
        first, last = extent(tensor)
        same = (first, tensor.stride()) == (start, out.stride())
        if first < stop and start < last and not same:
            return False
    return not overlaps_itself(out)


def extent(tensor: Tensor) -> tuple[int, int]:
    """The addresses of its first byte and of the one behind its last."""
    start = tensor.data_ptr()
    if tensor.numel() == 0:
        return start, start
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


# --- formulas ----------------------------------------------------------------------------------------


class xp:
    """PyTorch under the names of the array-API standard, as far as the formulas go."""

    max, sum, any, where, maximum = torch.amax, torch.sum, torch.any, torch.where, torch.maximum
    zeros_like, ones_like = torch.zeros_like, torch.ones_like
    exp, log, log1p, tanh, abs = torch.exp, torch.log, torch.log1p, torch.tanh, torch.abs
    inf = math.inf

    @staticmethod
    def astype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor.to(dtype)


def to_rows(tensor: Tensor, dims: Dims) -> Tensor:
    """The dims last, as one."""
    if tensor.ndim == 0 or not dims:
        return tensor.unsqueeze(-1)
    moved = tensor.movedim(dims, tuple(range(-len(dims), 0)))
    kept = moved.ndim - len(dims)
    return moved.reshape(*moved.shape[:kept], math.prod(moved.shape[kept:]))


def from_rows(rows: Tensor, like: Tensor, dims: Dims) -> Tensor:
    if like.ndim == 0 or not dims:
        return rows.squeeze(-1)
    rows = rows.reshape(*rows.shape[:-1], *[like.shape[d] for d in dims])
    return rows.movedim(tuple(range(-len(dims), 0)), dims)


def scaled_logits(x: Tensor, dims: Dims, where: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """scale·x in rows, −inf where masked; and which of it is −inf."""
    z = to_rows(wide(x), dims)
    absent = z == (-math.inf if scale >= 0 else math.inf)
    if where is not None:
        absent = absent | ~to_rows(where, dims)
    return torch.where(absent, -math.inf, z * scale), absent


def forward_by_formulas(
    spec: Map, x: Tensor, dims: Dims, where: Tensor | None, scale: float, empty: str
) -> Tensor:
    z, absent = scaled_logits(x, dims, where, scale)
    empty_rows = absent.all(-1, keepdim=True)
    spoilt = (z.isnan() | (z == math.inf)).any(-1, keepdim=True)
    z = torch.where(empty_rows | spoilt, 0.0, z)
    if spec.name == "softmax":
        y = torch.softmax(z, -1)
    elif spec.name == "log_softmax":
        y = torch.log_softmax(z, -1)
    elif spec.name == "sparsemax":
        y = formulas.sparsemax(z, xp)
    else:
        y = formulas.entmax(z, spec.alpha, xp)  # type: ignore[arg-type]
    y = torch.where(absent | empty_rows, spec.absent, y)
    y = torch.where(empty_rows, math.nan if empty == "nan" else spec.absent, y)
    return from_rows(torch.where(spoilt, math.nan, y), x, dims).to(x.dtype)


# --- the operations ----------------------------------------------------------------------------------


def spec_for(spec: Map, alpha: float | None = None, alpha_tensor: Tensor | None = None) -> Map:
    """The map for one alpha: entmax has one for each.

    A tensor on a GPU is waited for: an alpha of 1 or below is an error, and each of 1, 1.5, 2 and the range
    beyond 2 has its own kernel.
    """
    if alpha_tensor is not None:
        alpha = checks.alpha(alpha_tensor.item())
    return spec if alpha is None else specs.entmax(alpha)


def refuse_empty_rows(x: Tensor, dims: Dims, where: Tensor | None, scale: float) -> None:
    if x.numel() and scaled_logits(x, dims, where, scale)[1].all(-1).any():
        raise ValueError(checks.EMPTY_ROW)


@with_torch_threads
def forward_on_cpu(
    spec: Map, x: Tensor, y: Tensor, dims: Dims, where: Tensor | None, scale: float, empty: str
) -> None:
    run(spec.forward, (x, y), dims, where, scale, checks.EMPTY[empty], spec.more)
    if empty == "nan" and where is not None:  # the kernel writes 0 to what is masked, in empty rows too
        nothing = scaled_logits(x, dims, where, scale)[1].all(-1, keepdim=True)
        y.masked_fill_(from_rows(nothing.expand(to_rows(x, dims).shape), x, dims), math.nan)
    fast_path.remember(spec.name, x.dtype)


def forward(
    spec: Map, x: Tensor, dims: Dims, where: Tensor | None, scale: float, empty: str, *others: Any
) -> Tensor:
    """`others` are alpha and a tensor of it, of entmax, and `reuse_dy`, which is for the backward."""
    if spec.parameters:
        spec = spec_for(spec, *others[:2])
    if x.is_cpu:
        y = torch.empty_like(x)
        if empty == "raise":
            refuse_empty_rows(x, dims, where, scale)
        forward_on_cpu(spec, x, y, dims, where, scale, empty)
        return y
    kernels = triton(x.device, spec, spec.forward)
    if kernels is not None:
        options = {"axis": dims, "where": where, "scale": scale, "empty": empty, "alpha": spec.alpha}
        y = kernels.forward(spec.name, x, **options)
        return y
    if empty == "raise":
        refuse_empty_rows(x, dims, where, scale)
    y = torch.empty_like(x)
    return y.copy_(forward_by_formulas(spec, x, dims, where, scale, empty)) if x.numel() else y


def product(
    spec: Map,
    kind: str,
    y: Tensor,
    v: Tensor,
    dims: Dims,
    where: Tensor | None,
    scale: float,
    *alpha: Any,
    out: Tensor | None = None,
) -> Tensor:
    """`out` may be any memory, y and v too; for one that does not fit the error says what to do."""
    if spec.parameters:
        spec = spec_for(spec, *alpha)
    kernel = spec.vjp if kind == "vjp" else spec.jvp
    result = torch.empty_like(y) if out is None else out
    if y.is_cpu:
        if out is not None:
            check_overlap(out, ("y", "dy" if kind == "vjp" else "dx", "where"), y, v, where)
        product_on_cpu(kernel, (y, v, result), dims, where, scale, spec.more)
        return result
    kernels = triton(y.device, spec, kernel)
    if kernels is not None:
        options = {"axis": dims, "where": where, "scale": scale, "alpha": spec.alpha}
        return product_on_gpu(kernels, result, spec.name, kind, y, v, **options)
    return result.copy_(composites.product(spec, kind, y, v, dims, where, scale, spec.alpha))


def product_on_gpu(
    kernels: Any, out: Tensor, name: str, kind: str, y: Tensor, v: Tensor, **options: Any
) -> Tensor:
    target = mark_written(out) if safe_to_write(out, y, v) else torch.empty_like(y)
    kernels.product(name, kind, y, v, **options, out=target)
    return out if target is out else out.copy_(target)


@with_torch_threads
def product_on_cpu(kernel: str, tensors: tuple[Tensor, ...], *arguments: Any) -> None:
    dims, where, scale, more = arguments
    run(kernel, tensors, dims, where, scale, more=more)
    fast_path.remember(kernel.removesuffix("_vjp"), tensors[0].dtype)


def check_overlap(out: Tensor, names: tuple[str, ...], *inputs: Tensor | None) -> None:
    """Refuse an `out` of which a kernel could not tell the inputs; tell autograd that it is written."""
    arrays = [None if tensor is None else array(tensor) for tensor in inputs]
    checks.target(array(out), tuple(out.shape), numpy_dtype(out.dtype), dict(zip(names, arrays, strict=True)))
    mark_written(out)


def mark_written(out: Tensor) -> Tensor:
    """`out`, which a kernel is about to write: autograd has to know, and to say if it had saved that."""
    torch.autograd.graph.increment_version(out)
    return out


def double_backward(
    spec: Map, y: Tensor, dy: Tensor, v: Tensor, dims: Dims, scale: float, alpha: float | None = None
) -> tuple[Tensor, Tensor]:
    if spec.parameters:
        spec = spec_for(spec, alpha, None)
    if y.is_cpu:
        grads = torch.empty_like(y), torch.empty_like(y)
        product_on_cpu(spec.jvp, (y, v, grads[1]), dims, None, scale, spec.more)
        product_on_cpu(spec.double_backward, (y, dy, v, grads[0]), dims, None, scale, spec.more)
        return grads
    kernels = triton(y.device, spec, spec.double_backward)
    if kernels is not None:
        grads = kernels.double_backward(spec.name, y, dy, v, axis=dims, scale=scale, alpha=spec.alpha)
        return grads
    grad_x, grad_dy = composites.double_backward(spec, y, dy, v, dims, scale, spec.alpha)
    return torch.empty_like(y).copy_(grad_x), torch.empty_like(y).copy_(grad_dy)


def kept_shape(x: Tensor, dims: Dims) -> list[int]:
    """The shape of a reduction with 1 in the place of the dims; of a 0-d tensor that is its own."""
    return [1 if d - x.ndim in dims else size for d, size in enumerate(x.shape)]


@with_torch_threads
def reduction(spec: Reduction, x: Tensor, dims: Dims, where: Tensor | None, scale: float) -> Tensor:
    """One number for each row; the dims stay, with length 1."""
    result = x.new_empty(kept_shape(x, dims), dtype=torch.float64 if x.is_cpu else x.dtype)
    if x.numel() == 0:
        result.fill_(spec.of_nothing)
    elif x.is_cpu:
        run(spec.name, (x, result), dims, where, scale, shaped=0)
    else:
        threads.ran("formulas", spec.name)
        z, absent = scaled_logits(x, dims, where, scale)
        empty = absent.all(-1)
        z = torch.where(empty[..., None], 0.0, z)
        found = (
            torch.special.entr(torch.softmax(z, -1)).sum(-1) if spec.of_entropy else torch.logsumexp(z, -1)
        )
        result.copy_(torch.where(empty, spec.of_nothing, found).reshape(result.shape))
    return result.to(x.dtype)


@with_torch_threads
def reduction_vjp(
    spec: Reduction,
    x: Tensor,
    dy: Tensor,
    dims: Dims,
    where: Tensor | None,
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    result = torch.empty_like(x) if out is None else out
    if out is not None:
        check_overlap(out, ("x", "dy", "where"), x, dy, where)
    factors = dy.double() * scale
    if abs(scale) > 1 and not bool((factors.abs() <= checks.largest(numpy_dtype(x.dtype))).all()):
        masks = None if where is None else array(where)
        arrays.reduce_vjp(spec, array(x), array(dy), axis=dims, where=masks, scale=scale, out=array(result))
        return result
    run(f"{spec.name}_vjp", (factors, x, result), dims, where, scale)
    return result
