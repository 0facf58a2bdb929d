"""Jobs for processes of their own: a fault or a hang takes one with it, and the others go on.

A job is a line of text: the name of a function and its arguments.  Its answer is what JSON can hold.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]


def serve(functions: dict[str, Callable[..., Json]]) -> None:
    """Do the jobs that standard input names, a line each, and end after one that fails."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        name, *arguments = line.split()
        start = time.monotonic()
        try:
            answer = functions[name](*arguments)
        except Exception:
            answer = {"error": traceback.format_exc()[-2000:]}
        answers.write(json.dumps(answer | {"took": round(time.monotonic() - start, 2)}) + "\n")
        answers.flush()
        if "error" in answer:
            return


class Worker:
    """A process that serves."""

    def __init__(self, command: Sequence[str]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)

    def ask(self, job: str) -> Json:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{job}\n")
            self.process.stdin.flush()
            answer: Json = json.loads(self.process.stdout.readline())
            return answer
        except (OSError, ValueError):
            status = self.process.wait()
            self.errors.seek(0)
            return {"error": f"the process ended with {status}: {self.errors.read().decode()[-1000:]}"}

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # and what it has started

    def end(self) -> None:
        self.kill()
        self.process.communicate()  # closes the pipes, and waits
        self.errors.close()


def run(
    command: Sequence[str],
    jobs: Sequence[str],
    until: float,
    processes: int,
    keep: Callable[[str, Json], None],
) -> None:
    """Have the jobs done by processes that `serve`, and `keep` each answer as it comes, until `until`."""
    left, answers = collections.deque(jobs), queue.SimpleQueue[tuple[str, Json] | None]()
    workers: list[Worker] = []

    def work() -> None:
        worker = None
        with contextlib.suppress(IndexError):  # when there is no job left
            while time.monotonic() < until:
                if worker is None:
                    workers.append(worker := Worker(command))
                job = left.popleft()
                answers.put((job, answer := worker.ask(job)))
                if "error" in answer:
                    worker.end()
                    worker = None
        if worker is not None:
            worker.end()
        answers.put(None)

    threads = [threading.Thread(target=work) for _ in range(min(processes, len(left)))]
    for thread in threads:
        thread.start()
    busy = len(threads)
    try:
        while busy:
            answer = answers.get(timeout=max(0.0, until - time.monotonic()))
            if answer is None:
                busy -= 1
            else:
                keep(*answer)
    except queue.Empty:
        pass
    finally:
        left.clear()
        for worker in workers:
            worker.kill()
        for thread in threads:
            thread.join()
