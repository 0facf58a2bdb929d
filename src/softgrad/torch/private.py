"""The private parts of PyTorch that softgrad.torch uses, each with its purpose.

Tested with PyTorch 2.11 and 2.13.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

# Whether torch.func.grad, vmap or their like are at work: a call is theirs then, and goes through
# `Function.apply`, which they know.  A C function, since every call asks it.
from torch._C import _are_functorch_transforms_active as transforms_active

# Whether a mode (FakeTensorMode, make_fx, a user's) wants to see operators, and whether torch.jit traces.
from torch._C import _is_tracing, _len_torch_dispatch_stack

# What `autograd.grad(is_grads_batched=True)` makes: a Tensor by its type, without memory of its own.
from torch._C._functorch import is_legacy_batchedtensor

# Where the ONNX exporter looks for an operator made of others.
from torch._decomp import register_decomposition
from torch.autograd import Function, forward_ad
from torch.autograd.function import _SingleLevelFunction

__all__ = ["register_decomposition", "transforms_active"]  # passed on

PLAIN = (Tensor, torch.nn.Parameter)

# The dispatch key that comes first where a transform is active.  Without an implementation for it PyTorch
# takes the levels of the transforms one by one, with autograd off for the outer ones, whose derivatives are
# lost.
TRANSFORMS_KEY = "FuncTorchDynamicLayerFrontMode"


def is_plain_storage(*tensors: Tensor) -> bool:
    """Whether a kernel may be given the addresses: memory of the CPU or CUDA, untraced."""
    for tensor in tensors:
        if (
            type(tensor) not in PLAIN
            or not (tensor.is_cpu or tensor.is_cuda)
            or tensor.is_neg()
            or tensor._is_zerotensor()  # zeros without memory, as forward mode makes them
            or is_legacy_batchedtensor(tensor)
        ):
            return False
    return not is_traced()


def is_traced() -> bool:
    """Whether a mode, torch.jit or a transform wants to see operators."""
    return _len_torch_dispatch_stack() > 0 or _is_tracing() or transforms_active()


def is_batched(*arguments: Any) -> bool:
    """Whether autograd has batched one of them."""
    return any(isinstance(a, Tensor) and is_legacy_batchedtensor(a) for a in arguments)


def is_bare() -> bool:
    """Whether nothing looks on, forward mode neither."""
    return not (
        _len_torch_dispatch_stack() or transforms_active() or forward_ad._current_level >= 0 or _is_tracing()
    )


def forward_mode() -> bool:
    """Whether forward mode is on."""
    return forward_ad._current_level >= 0


def no_derivative(arguments: Sequence[Any], at: Iterable[int]) -> bool:
    """Whether neither mode of autograd follows any of these tensors; asked where no transform is active."""
    forward, reverse = forward_ad._current_level >= 0, torch.is_grad_enabled()
    if forward or reverse:
        for i in at:
            tensor = arguments[i]
            if tensor is not None and (
                (reverse and tensor.requires_grad) or (forward and has_tangent(tensor))
            ):
                return False
    return True


def has_tangent(tensor: Tensor) -> bool:
    """Whether forward mode follows it, or could: of a batched tensor that can't be asked."""
    return is_legacy_batchedtensor(tensor) or forward_ad.unpack_dual(tensor).tangent is not None


def detach(tensor: Tensor) -> Tensor:
    """`tensor.detach()`, for where that only saves time: of a batched tensor PyTorch has none."""
    return tensor if is_legacy_batchedtensor(tensor) else tensor.detach()


def redispatch_below_autograd(operator: Any, arguments: tuple[Any, ...]) -> Any:
    """Call a registered operator past its autograd."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def with_context(rule: type[Function], result_of: Callable[..., Any]) -> Callable[..., Any]:
    """`apply` of a Function that has `setup_context`, in half of the time, for where no transform is active.

    The Function has to be one whose `forward` takes a ctx, and what `Function.apply` does in Python before
    it comes to C++ takes longer than the rest of a small call.
    """

    prepare = rule.setup_context

    def forward(ctx: Any, *arguments: Any) -> Any:
        result = result_of(*arguments)
        prepare(ctx, arguments, result)
        return result

    # how PyTorch tells the two kinds of Function
    setup_context = staticmethod(_SingleLevelFunction.setup_context)
    methods = {"forward": staticmethod(forward), "setup_context": setup_context}
    apply: Callable[..., Any] = super(Function, type(rule)(rule.__name__, (rule,), methods)).apply  # type: ignore[misc]
    return apply


def with_forward_mode(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """A `jvp` of a Function, itself followed by forward mode.

    PyTorch turns forward mode off while a jvp runs, for every level: the jvp of a jvp of a jvp is wrong
    then, without an error.  With it on, the tangents that this jvp is for must be off what was saved: see
    `primals`.
    """

    @functools.wraps(jvp)
    def followed(ctx: Any, *tangents: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(ctx, *tangents)

    return followed


def primals(*tensors: Any) -> list[Any]:
    return [None if tensor is None else forward_ad.unpack_dual(tensor).primal for tensor in tensors]


def all_gather(tensor: Tensor, group: str, size: int, functional: bool) -> Tensor:
    """The tensors of all ranks of a group of this name and size, along a new first dim.

    The functional collective is what `torch.compile` keeps in its graph; the group's own method takes two
    thirds of its time.  The public functions are deprecated or renamed from one release to the next.
    """
    if functional:
        ops = torch.ops._c10d_functional
        found = ops.wait_tensor(ops.all_gather_into_tensor(tensor, size, group))
        return found.view(size, *tensor.shape)
    result = tensor.new_empty((size, *tensor.shape))
    by_name: Any = torch._C._distributed_c10d._resolve_process_group
    by_name(group).allgather([list(result.unbind(0))], [tensor]).wait()
    return result


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two elements are, or may be, the same memory."""
    return torch._debug_has_internal_overlap(tensor) != 0


def has_hooks(module: torch.nn.Module) -> bool:
    """Whether a module has hooks."""
    return any(
        (
            module._forward_pre_hooks,
            module._forward_hooks,
            module._backward_pre_hooks,
            module._backward_hooks,
        )
    )


@functools.cache
def wrap_checkpoints(wrap: Callable[[Any], Any]) -> None:
    """Let `torch.utils.checkpoint.checkpoint` keep `wrap(function)`, which it calls again in the backward.

    The two names are what it looks up for that, however it was imported itself.
    """
    checkpoint: Any = torch.utils.checkpoint
    with contextlib.suppress(AttributeError):
        generator = checkpoint._checkpoint_without_reentrant_generator

        @functools.wraps(generator)
        def wrapped(function: Any, *arguments: Any, **options: Any) -> Any:
            return generator(wrap(function), *arguments, **options)

        checkpoint._checkpoint_without_reentrant_generator = wrapped

    with contextlib.suppress(AttributeError):
        of_theirs = checkpoint.CheckpointFunction

        class Reentrant(of_theirs):  # type: ignore[misc, valid-type]
            @classmethod
            def apply(cls, function: Any, *arguments: Any) -> Any:
                return of_theirs.apply(wrap(function), *arguments)

        checkpoint.CheckpointFunction = Reentrant
