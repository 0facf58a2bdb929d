"""softgrad in the place of PyTorch's softmax: in modules, in attention, or for all calls in a block."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .. import checks
from ..checks import Empty
from . import functions
from .nn import LogSoftmax, Softmax
from .private import has_hooks, wrap_checkpoints

Model = torch.nn.Module
KINDS: dict[Any, type[Softmax]] = {torch.nn.Softmax: Softmax, torch.nn.LogSoftmax: LogSoftmax}


def replace_softmax(model: Model, *, empty: Empty = "zero") -> Model:
    """Put softgrad's modules in the place of every `torch.nn.Softmax` and `torch.nn.LogSoftmax` of a model.

    Parameters
    ----------
    model : torch.nn.Module
        It is changed.
    empty : {"zero", "nan", "raise"}
        What a row gives that has nothing in it; "nan" is what PyTorch does.

    Returns
    -------
    torch.nn.Module
        `model`; or the module in its place, if it is a softmax itself.

    Notes
    -----
    Calls of functions in the model's code (``torch.softmax(scores, -1)``) are no modules: for these see
    `swapped`.  What stays as it is: a `torch.nn.Softmax` without a ``dim``, which PyTorch finds from the
    input; a module that has hooks, which are its own; `torch.nn.Softmax2d`, `torch.nn.Softmin` and subclasses
    of any of these.  A module that is in several places is replaced by the same one in each.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.replace_softmax(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Softmax(dim=1)))
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Softmax(dim=1)
    )
    """
    checks.choice(empty)
    made: dict[Model, Model] = {}
    for module in list(model.modules()):
        dim: Any = getattr(module, "dim", None)
        if type(module) in KINDS and dim is not None and not has_hooks(module):
            made[module] = KINDS[type(module)](dim, empty=empty).train(module.training)
    for module in list(model.modules()):
        for name, child in module._modules.items():  # `named_children` leaves out what it has named before
            if child in made:
                setattr(module, name, made[child])
    return made.get(model, model)


def register_attention(name: str = "softgrad", *, empty: Empty = "zero") -> None:
    """Have `transformers` compute attention with softgrad where a model says ``attn_implementation=name``.

    Parameters
    ----------
    name : str
        What to call it.
    empty : {"zero", "nan", "raise"}
        What a row of scores gives that is masked whole; "zero" takes no part of any value.

    Raises
    ------
    ImportError
        There is no `transformers`, or one without ``AttentionInterface``.

    Notes
    -----
    It is ``attn_implementation="eager"`` with `softmax` and boolean masks: a masked entry has weight 0 and
    gradient 0, whatever it holds.  The model itself calls it, so it holds in every thread, where activation
    checkpoints compute a layer again, and under ``torch.compile``.  Models with attention sinks (gpt-oss)
    give them as ``s_aux``; a row that is masked whole is then 0.

    Examples
    --------
    With a model of `transformers`::

        softgrad.torch.register_attention()
        model.set_attn_implementation("softgrad")
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    checks.choice(empty)

    def mask(*arguments: Any, **options: Any) -> Any:
        return sdpa_mask(*arguments, **options | {"allow_is_causal_skip": False})

    AttentionInterface.register(name, functools.partial(attention, empty=empty))
    AttentionMaskInterface.register(name, mask)


def attention(
    module: Model,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    *,
    empty: Empty = "zero",
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """What `transformers` calls: the result, with the heads behind the tokens, and the weights."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # several heads of queries have one of keys
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    where = None
    if attention_mask is not None and attention_mask.dtype is torch.bool:
        where = attention_mask[..., : key.shape[-2]]
    elif attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]]
    if s_aux is None:
        weights = functions.softmax(scores, where=where, empty=empty)
    else:  # a sink for each head; no row is empty beside it
        weights = functions.softmax(scores, where=where, sink=s_aux.reshape(1, -1, 1, 1))
    weights = functional.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def in_place_of(function: Callable[..., Tensor], empty: str) -> Callable[..., Tensor]:
    """`function` with the arguments of `torch.softmax`."""

    @functools.wraps(function)
    def call(input: Tensor, dim: int, dtype: Any = None, *, out: Tensor | None = None) -> Tensor:
        return function(input, dim, dtype, empty=empty, out=out)

    return call


def functional_in_place_of(
    theirs: Callable[..., Tensor], ours: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """`ours` with the arguments of `torch.nn.functional.softmax`."""

    def call(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
        if dim is None:
            return theirs(input, dim, _stacklevel, dtype)
        return ours(input, dim, dtype)

    return call


class Entered(threading.local):
    """The blocks of `swapped` that this thread is in."""

    def __init__(self) -> None:
        self.blocks: list[swapped] = []


entered = Entered()


def within_block(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` in the block of `swapped` that it was given in, whenever and wherever it is called.

    PyTorch leaves a mode while it runs a backward, and runs that of a GPU in a thread of its own.
    """
    if not entered.blocks:
        return function
    block = entered.blocks[-1]

    def call(*arguments: Any, **options: Any) -> Any:
        with block:
            return function(*arguments, **options)

    return call


class swapped(TorchFunctionMode):
    """Within this context `torch.softmax` and its like go through softgrad, whoever calls them.

    These are ``softmax`` and ``log_softmax`` of ``torch``, ``torch.Tensor``, ``torch.special`` and
    ``torch.nn.functional``, and the modules, which call them.

    Parameters
    ----------
    empty : {"zero", "nan", "raise"}
        What a row gives that has nothing in it; "nan" is what PyTorch does.

    Notes
    -----
    A backward may come after the block; activation checkpoints (``torch.utils.checkpoint``) compute again
    with softgrad there too.  Not reached are: other threads than the one that entered the block; functions
    of PyTorch's that have a softmax within, such as `torch.nn.functional.scaled_dot_product_attention`
    (a model of Hugging Face's takes ``attn_implementation="eager"``), ``multi_head_attention_forward``,
    ``cross_entropy``, ``softmin`` and ``gumbel_softmax``; and calls of ``torch.nn.functional`` that leave
    `dim` out.  Nested and sparse tensors are refused in the block.  Each call of any function of PyTorch's
    takes about a microsecond longer there.

    Where a model can be changed, `replace_softmax` and `register_attention` hold in every thread.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> with softgrad.torch.swapped():
    ...     torch.softmax(torch.full((2,), -torch.inf), -1)
    tensor([0., 0.])
    """

    def __init__(self, *, empty: Empty = "zero") -> None:
        super().__init__()
        checks.choice(empty)
        softmax = in_place_of(functions.softmax, empty)
        log_softmax = in_place_of(functions.log_softmax, empty)
        self.instead: dict[Any, Callable[..., Tensor]] = {
            torch.softmax: softmax,
            torch.special.softmax: softmax,
            Tensor.softmax: softmax,
            torch.log_softmax: log_softmax,
            torch.special.log_softmax: log_softmax,
            Tensor.log_softmax: log_softmax,
            functional.softmax: functional_in_place_of(functional.softmax, softmax),
            functional.log_softmax: functional_in_place_of(functional.log_softmax, log_softmax),
        }

    def __enter__(self) -> Any:
        if not torch.compiler.is_compiling():  # which traces the function within a checkpoint as well
            wrap_checkpoints(within_block)
            entered.blocks.append(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        if not torch.compiler.is_compiling():
            entered.blocks.pop()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.instead.get(func, func)(*args, **(kwargs or {}))
