"""What the examples for several processes share: how they are started, and two collectives with gradients."""

import os
import sys

import torch
import torch.distributed as dist

PROCESSES = 4


class Copied(torch.autograd.Function):
    """The same tensor on all ranks, each of which uses it for a part of the work: gradients are summed."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dx):
        dx = dx.clone()
        dist.all_reduce(dx, group=ctx.group)
        return dx, None


class Summed(torch.autograd.Function):
    """The sum of the ranks' parts; its gradient is that of each part."""

    @staticmethod
    def forward(ctx, x, group):
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, dx):
        return dx, None


def copied(x, group):
    return x if group is None else Copied.apply(x, group)


def summed(x, group):
    return x if group is None else Summed.apply(x, group)


def part(x, group, dim=0):
    """This rank's shard of a tensor that all ranks have."""
    return x if group is None else x.tensor_split(group.size(), dim)[group.rank()]


def work(rank, size, train):
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29555")
    dist.init_process_group("gloo", rank=rank, world_size=size)
    torch.set_num_threads(1)
    curve = train(dist.group.WORLD)
    if rank == 0:
        report(curve, train(None))
    dist.barrier()  # none leaves before the others are done
    dist.destroy_process_group()


def report(divided, alone):
    print(f"{'step':>4}  {'processes':>10}  {'one alone':>10}")
    for step in range(0, len(divided), max(1, len(divided) // 8)):
        print(f"{step:4}  {divided[step]:10.6f}  {alone[step]:10.6f}")
    far = max(abs(a - b) / abs(b) for a, b in zip(divided, alone, strict=True))
    print(f"The loss falls from {divided[0]:.3f} to {divided[-1]:.3f}; the curves differ by {far:.1e} of it.")
    if not far < 1e-3:
        sys.exit("They should not.")


def run(train):
    """`train(group)` on four processes, or on those of torchrun, and then on one alone."""
    if "RANK" in os.environ:
        work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), train)
    else:
        torch.multiprocessing.spawn(work, (PROCESSES, train), PROCESSES)
