"""The all-gather of a call in a process group, and what is made of the numbers that it brings.

Beside the numbers it carries what a call is about, so that calls that don't fit together, and an error on one
rank, are errors on all.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_compiling

from .backend import xp
from .private import all_gather
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
        group = group.get_group()
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


HEAD, ROOM = 16, 240  # numbers of a frame: what a call is about, and what is told of its rows
FAILED, FUNCTION, DTYPE, START, SIZE, NDIM = range(6)
SHAPE = HEAD - 8


class Exchange:
    """The all-gather of one call, with which the ranks agree on what it is.

    A frame of 2 KiB is the same on all ranks whatever they were given.  What does not fit into it follows by
    itself.  A rank that leaves the `with` by an error before it told anything sends a frame that says so.
    """

    def __init__(self, group: Group, function: str, options: Any) -> None:
        self.group, self.function, self.options, self.open = group, function, options, True
        self.head = [0.0] * HEAD
        self.heads: list[list[float]] = []

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if self.open and isinstance(error, Exception):
            self.head[FAILED] = 1.0
            self.gather(torch.zeros(0, dtype=torch.float64))

    def about(self, x: Tensor, dims: Dims, start: int = 0) -> None:
        """What the ranks have to have in common, and where the classes of this one are."""
        size = math.prod(x.shape[d] for d in dims) if x.ndim else 1
        shape = [-1 if d - x.ndim in dims else n for d, n in enumerate(x.shape)]
        asked = self.function, self.options, dims, x.requires_grad and torch.is_grad_enabled()
        self.head[FUNCTION] = zlib.crc32(repr(asked).encode())
        self.head[DTYPE], self.head[NDIM] = FLOATS.index(x.dtype), x.ndim
        self.head[START], self.head[SIZE] = start, size
        self.head[SHAPE : SHAPE + len(shape)] = shape[: HEAD - SHAPE]

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
            if head[NDIM] != first[NDIM] or head[SHAPE:] != first[SHAPE:]:
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
            if head[FUNCTION] != first[FUNCTION]:
                raise ValueError(
                    f"{self.function}: rank {rank} of the group calls another function than rank 0, or with "
                    f"another dim, scale, option or requires_grad: call it alike on all ranks"
                )


def shape_of(head: list[float]) -> str:
    sizes = ["*" if n < 0 else str(int(n)) for n in head[SHAPE:][: int(head[NDIM])]]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def gather(numbers: Tensor, group: Group, exchange: Exchange | None = None) -> Tensor:
    """The numbers of all ranks: backward, on a GPU and where PyTorch traces, without asking what they are."""
    if exchange is not None and is_memory(numbers):
        return exchange.gather(numbers)
    if exchange is not None:
        exchange.open = False
    return all_gather(numbers.contiguous(), group.name, group.size, not is_memory(numbers))


def is_memory(numbers: Tensor) -> bool:
    """Whether NumPy can do what is left: on a few numbers it takes a third of PyTorch's time."""
    return not is_compiling() and type(numbers) is Tensor and numbers.is_cpu


def merge(function: Any, *told: Tensor) -> tuple[Tensor, ...]:
    """`formulas.merge_stats`, or `merge_moments`, of what all ranks told."""
    if not is_memory(told[0]):
        return function(*told, xp)
    with np.errstate(all="ignore"):
        return tuple(torch.from_numpy(number) for number in function(*[t.numpy() for t in told], np))
