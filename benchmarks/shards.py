"""softmax of divided rows in a process group, beside DTensor's own and a gather by hand: both ways.

    python benchmarks/shards.py [--quick]

2 and 4 gloo processes of one thread each.  All ways run in turns in one loop, each round after a barrier; a
round takes as long as its slowest rank, and a ratio is that of the medians, below 1 where softgrad is faster.
Prints a table and writes benchmarks/results/shards.json.
"""

import itertools
import os
import sys
import time
import warnings
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from records import as_text
from torch.distributed.tensor import DTensor, Shard, init_device_mesh

import softgrad.torch as st
from softgrad.commands.machine import environment

SHAPES = [(64, 8192), (8, 131072)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PROCESSES = (2, 4)
OURS, OTHERS = "softgrad", ("dtensor", "gathered")


class Gathered(torch.autograd.Function):
    """softmax of rows that are brought together: one all-gather each way."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group, ctx.rank = group, dist.get_rank(group)
        y = torch.softmax(whole(x, group), -1)
        ctx.save_for_backward(y)
        return y.chunk(dist.get_world_size(group), -1)[ctx.rank].contiguous()

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        dx = torch._softmax_backward_data(whole(dy, ctx.group), y, -1, y.dtype)
        return dx.chunk(dist.get_world_size(ctx.group), -1)[ctx.rank].contiguous(), None


def whole(x, group):
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x, group)
    return torch.cat(parts, -1)


def ways(shape, dtype, mesh, ranks):
    group = mesh.get_group()
    x, dy = (torch.randn(shape[0], shape[1] // ranks).to(dtype) for _ in range(2))
    divided, of_divided = (DTensor.from_local(a, mesh, [Shard(1)]) for a in (x, dy))

    def ours():
        st.softmax(x.detach().requires_grad_(), group=group).backward(dy)

    def theirs():
        torch.softmax(divided.detach().requires_grad_(), -1).backward(of_divided)

    def gathered():
        Gathered.apply(x.detach().requires_grad_(), group).backward(dy)

    return {OURS: ours, "dtensor": theirs, "gathered": gathered}


def measure(rank, ranks, port, quick, queue):
    warnings.simplefilter("ignore")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    mesh = init_device_mesh("cpu", (ranks,))
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        functions = ways(shape, DTYPES[dtype], mesh, ranks)
        samples = {name: [] for name in functions}
        for _ in range(5 if quick else 60):
            for name, function in functions.items():
                dist.barrier()
                start = time.perf_counter()
                function()
                taken = torch.tensor([time.perf_counter() - start])
                dist.all_reduce(taken, dist.ReduceOp.MAX)
                samples[name].append(taken.item())
        if rank == 0:
            times = {name: median(own[len(own) // 10 :]) for name, own in samples.items()}
            queue.put({"shape": shape, "dtype": dtype, "processes": ranks} | times)
    dist.barrier()  # a rank that ends while another still waits takes that with it
    dist.destroy_process_group()


def main():
    quick, found = "--quick" in sys.argv, []
    for number, ranks in enumerate(PROCESSES):
        context = torch.multiprocessing.get_context("spawn")
        queue = context.Queue()
        arguments = ranks, 29610 + number, quick, queue
        started = torch.multiprocessing.spawn(measure, arguments, ranks, join=False)
        for _ in itertools.product(SHAPES, DTYPES):
            cell = queue.get()
            cell |= {f"ratio to {name}": cell[OURS] / cell[name] for name in OTHERS}
            found.append(cell)
            beside = "  ".join(f"{name} {cell[f'ratio to {name}']:.2f}" for name in OTHERS)
            print(
                f"{ranks} processes  {cell['shape'][0]:3}×{cell['shape'][1]:<7} {cell['dtype']:9} "
                f"{cell[OURS] * 1e3:7.2f} ms, as a part of  {beside}",
                flush=True,
            )
        while not started.join():
            pass
    if not quick:
        path = Path(__file__).parent / "results" / "shards.json"
        path.write_text(as_text({"environment": environment("torch"), "cells": found}))


if __name__ == "__main__":
    main()
