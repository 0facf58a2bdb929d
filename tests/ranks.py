"""Processes that are ranks of a gloo group, started once for many calls.

`ranks(function, *arguments)` calls `function(*arguments)` on each and returns what they returned.  The
function is found by its name in the test module; `group(size)` there is the group of the first so many ranks,
or None on one that is not in it.  An error on any rank is raised here, unless `errors=True`, when it is a
`Raised` among the results.
"""

import multiprocessing
import os
import socket
import traceback
import warnings
from datetime import timedelta
from typing import NamedTuple

LONG = 120  # seconds after which a call hangs


class Raised(NamedTuple):
    kind: str
    text: str
    trace: str


class Ranks:
    def __init__(self, size, timeout=60):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, size, port, timeout, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def __call__(self, function, *arguments, errors=False):
        for pipe in self.pipes:
            pipe.send((function, arguments))
        results = [self.answer(rank) for rank in range(len(self.pipes))]
        raised = [result for result in results if isinstance(result, Raised)]
        assert errors or not raised, raised[0].trace
        return results

    def answer(self, rank):
        if not self.pipes[rank].poll(LONG):
            self.close()
            raise AssertionError(f"rank {rank} hangs")
        return self.pipes[rank].recv()

    def close(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


GROUPS = {}


def group(size):
    return GROUPS.get(size)


def serve(rank, size, port, timeout, pipe):
    import torch
    import torch.distributed as dist

    import softgrad.torch  # noqa: F401

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
    GROUPS[size] = dist.group.WORLD
    if size == 4:
        pair = dist.new_group([0, 1])
        if rank < 2:
            GROUPS[2] = pair
    warnings.simplefilter("error")
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            result = function(*arguments)
        except Exception as error:
            result = Raised(type(error).__name__, str(error), traceback.format_exc())
        pipe.send(result)
