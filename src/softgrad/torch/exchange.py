"""The all-gather of a call in a process group, and what is made of the numbers that it brings.

Beside the numbers it carries what a call is about, so that calls that don't fit together, and an error on one
rank, are errors on all.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_compiling

from .. import distributed
from .backend import xp
from .private import all_gather, forward_mode, transforms_active
from .tensors import FLOATS

Dims = tuple[int, ...]


class Group(NamedTuple):
    """A process group, as a graph can hold it."""

    name: str
    size: int
    rank: int


def group_of(group: Any) -> Group:
    """A ProcessGroup, or a DeviceMesh of one dim, of which this process is a rank."""
    if isinstance(group, dist.device_mesh.DeviceMesh):
        if group.ndim != 1:
            raise ValueError(
                f"group is a DeviceMesh of {group.ndim} dims; it takes one dim, along which the rows are "
                f"divided: give mesh[name]"
            )
        group = dist.GroupMember.NON_GROUP_MEMBER if group.get_coordinate() is None else group.get_group()
    if group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            f"group is one that rank {dist.get_rank()} is not in: call the function on its ranks only"
        )
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"group is a {type(group).__module__}.{type(group).__name__}; it takes a ProcessGroup or a "
            f"DeviceMesh: give torch.distributed.group.WORLD for all processes"
        )
    return Group(group.group_name, group.size(), group.rank())


# numbers of a frame: what a call is about, and what is told of its rows
HEAD, ROOM = 24, 232
FAILED, FUNCTION, DTYPE, START, SIZE, NDIM, SHAPE, CALL, OPTIONS = range(9)
SIZES = HEAD - 8
FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "entropy", "cross_entropy")
CALLS = itertools.count(1)


class Exchange:
    """The all-gather of one call, with which the ranks agree on what it is.

    A frame of 2 KiB is the same on all ranks whatever they were given.  What does not fit into it follows by
    itself.  A rank that leaves the `with` by an error before it told anything sends a frame that says so.
    """

    def __init__(self, group: Group, function: str) -> None:
        self.group, self.function, self.open = group, function, True
        self.options: dict[str, Any] = {}
        self.head = [0.0] * HEAD
        self.head[FUNCTION], self.head[CALL] = FUNCTIONS.index(function), next(CALLS)
        self.heads: list[list[float]] = []

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if self.open and isinstance(error, Exception):
            self.head[FAILED] = 1.0
            self.gather(torch.zeros(0, dtype=torch.float64))

    def about(self, x: Tensor, dims: Dims, options: dict[str, Any], start: int = 0) -> None:
        """What the ranks have to have in common, and where the classes of this one are."""
        size = math.prod(x.shape[d] for d in dims) if x.ndim else 1
        shape = [-1 if d - x.ndim in dims else n for d, n in enumerate(x.shape)]
        self.options = {"dim": dims, "requires_grad": x.requires_grad and torch.is_grad_enabled(), **options}
        self.head[DTYPE], self.head[NDIM], self.head[SHAPE] = FLOATS.index(x.dtype), x.ndim, crc(shape)
        self.head[START], self.head[SIZE] = start, size
        for place, value in enumerate(self.options.values(), OPTIONS):
            self.head[place] = crc(value)
        self.head[SIZES : SIZES + len(shape[:8])] = shape[:8]

    def gather(self, numbers: Tensor) -> Tensor:
        """The numbers of all ranks, one after the other along the first dim."""
        self.open = False
        flat = numbers.detach().reshape(-1)
        frame = np.zeros(HEAD + ROOM)
        frame[:HEAD] = self.head
        frame[HEAD : HEAD + flat.numel()] = flat[:ROOM].numpy()
        frames = all_gather(torch.from_numpy(frame), self.group.name, self.group.size, False)
        self.heads = frames[:, :HEAD].tolist()
        if not self.head[FAILED]:  # this rank has an error of its own to raise
            self.check()
        found = frames[:, HEAD : HEAD + flat.numel()]
        if flat.numel() > ROOM and not self.head[FAILED]:
            rest = all_gather(flat[ROOM:].contiguous(), self.group.name, self.group.size, False)
            found = torch.cat([frames[:, HEAD:], rest], 1)
        return found.reshape(self.group.size, *numbers.shape)

    @property
    def call(self) -> int:
        """The number of the call, which its backward is told by; that of rank 0."""
        return int(self.heads[0][CALL]) if self.heads else 0

    def spans(self) -> list[tuple[int, int]]:
        """(the first class, how many) of each rank's shard."""
        return [(int(head[START]), int(head[SIZE])) for head in self.heads]

    def check(self) -> None:
        """Refuse a call that another rank failed in, or that is not the same on all ranks."""
        first = self.heads[0]
        for rank, head in enumerate(self.heads):
            if head[FAILED]:
                raise RuntimeError(
                    f"{self.function}: rank {rank} of the group raised an error, which is told there; no "
                    f"rank has a result"
                )
        for rank, head in enumerate(self.heads):
            if head[FUNCTION] != first[FUNCTION]:
                names = [FUNCTIONS[int(h[FUNCTION])] for h in (first, head)]
                raise ValueError(
                    f"rank 0 of the group calls {names[0]} and rank {rank} calls {names[1]}: call one "
                    f"function on all ranks"
                )
            if head[NDIM] != first[NDIM] or head[SHAPE] != first[SHAPE]:
                raise ValueError(
                    f"{self.function}: the shards have shape {shape_of(first)} on rank 0 of the group and "
                    f"{shape_of(head)} on rank {rank}; they must be the same but for what is divided (*): "
                    f"give each rank the same rows"
                )
            if head[DTYPE] != first[DTYPE]:
                raise TypeError(
                    f"{self.function}: the shards have dtype {FLOATS[int(first[DTYPE])]} on rank 0 of the "
                    f"group and {FLOATS[int(head[DTYPE])]} on rank {rank}; they must be the same: convert "
                    f"one of them"
                )
            differ = [n for at, n in enumerate(self.options, OPTIONS) if head[at] != first[at]]
            if differ:
                raise ValueError(
                    f"{self.function}: rank {rank} of the group has another {' and '.join(differ)} than rank "
                    f"0: give the same on all ranks"
                )


def crc(value: Any) -> int:
    """A number that differs for values that do; of a tensor, for its elements."""
    if isinstance(value, Tensor):
        return zlib.crc32(value.detach().contiguous().numpy().data)
    return zlib.crc32(repr(value).encode())


def shape_of(head: list[float]) -> str:
    sizes = ["*" if n < 0 else str(int(n)) for n in head[SIZES:][: int(head[NDIM])]]
    more = ", …" if head[NDIM] > len(sizes) else "," if len(sizes) == 1 else ""
    return f"({', '.join(sizes)}{more})"


def exchanged(group: Any, function: str, call: Callable[[Group, Exchange | None], Tensor]) -> Tensor:
    """What `call` returns; an error in it is told to the other ranks.  A graph has no frame to do so."""
    of = group_of(group)
    if is_compiling():
        return call(of, None)
    if transforms_active() or forward_mode():  # under which no frame can be sent either
        raise NotImplementedError(
            f"{function}: torch.func's transforms and forward mode don't go beside a group: take backward(), "
            f"or torch.autograd.grad"
        )
    with Exchange(of, function) as exchange:
        return call(of, exchange)


def gather(numbers: Tensor, group: Group, exchange: Exchange | None = None, call: str = "") -> Tensor:
    """The numbers of all ranks.

    On a GPU and where PyTorch traces it is not asked what they are.  Backward that is one number, of the
    `call`, in front.
    """
    if exchange is not None and is_memory(numbers):
        return exchange.gather(numbers)
    if is_memory(numbers):
        flat = np.empty(1 + numbers.numel())
        flat[0], flat[1:] = crc(call), numbers.detach().numpy().ravel()
        found = all_gather(torch.from_numpy(flat), group.name, group.size, False)
        if any(first != flat[0] for first in found[:, 0].tolist()):
            raise RuntimeError(
                "the ranks of the group run the backwards of different calls: run them in one order on all"
            )
        return found[:, 1:].reshape(group.size, *numbers.shape)
    found = all_gather(numbers.contiguous(), group.name, group.size, True)
    if exchange is not None:
        exchange.open = False
    return found


def is_memory(numbers: Tensor) -> bool:
    """Whether NumPy can do what is left: on a few numbers it takes a third of PyTorch's time."""
    return not is_compiling() and type(numbers) is Tensor and numbers.is_cpu


def merge(function: Any, *told: Tensor) -> tuple[Tensor, ...]:
    """`distributed.merge` of what all ranks told."""
    if not is_memory(told[0]):
        return function(*told, xp)
    found = distributed.merge(function, *[t.numpy() for t in told])
    return tuple(torch.from_numpy(number) for number in found)
