"""The process in which a target runs: it may crash, exit or print there, and the command goes on.

Its argument is the job; its results are lines of JSON on standard output.  What the target prints goes to
standard error.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import testing
from ..testing.budget import Budget, limit_memory
from ..testing.options import parse
from ..testing.properties import EACH_LENGTH
from ..testing.run import findings, growing, unusual
from .run import Settings
from .target import Unusable, find


def verify(text: str, settings: Settings, send: Callable[..., None]) -> None:
    budget = Budget(settings.seconds, settings.gigabytes * 1e9)
    faulthandler.dump_traceback_later(1.25 * settings.seconds + 1, exit=True)  # of one call that hangs
    what: Any = settings.what
    target = find(text, settings.map, what)
    level: Any = settings.level
    reading = target.reading(
        what, settings.map, settings.args, settings.axis, level, settings.dtypes[0], settings.device
    )
    peer = target.peer
    longest = min((n for n in (settings.max_n, peer.max_n) if n is not None), default=None)
    options: Any = {
        "map": reading.map or settings.map,
        "level": settings.level,
        "dtypes": settings.dtypes,
        "axis": 0 if reading.axis else None,  # along −1 it is called without
        "max_n": longest,
        "seed": settings.seed,
    }
    send(
        "begin",
        about=peer.about,
        package=peer.package,
        called=reading.called,
        note=reading.note,
        arrays=reading.arrays,
        device=settings.device or peer.device,
        max_n=longest,
        planned=testing.planned(what, **options),
    )
    given = unusual(
        what=(what, "vjp"),
        map=(settings.map, "softmax"),
        args=(",".join(settings.args or ()), ""),
        axis=(settings.axis, None),
        device=(settings.device or peer.device, "cpu"),
    )
    code = "softgrad.testing, softgrad.verify", f"softgrad.verify.load({text!r}{given})"
    limit_memory(1.25 * budget.bytes)
    parsed = parse(options)
    function = budget.within(reading.function)
    budget.grow(growing(what, function, parsed), longest or EACH_LENGTH[-1])
    for finding in findings(what, function, parsed, code=code, budget=budget):
        send("finding", **dataclasses.asdict(finding))


def end_with(parent: int) -> None:
    """End when nobody holds the other end of this pipe any more: the command is gone."""
    os.read(parent, 1)
    os._exit(1)


def main() -> None:
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=end_with, args=(os.dup(0),), daemon=True).start()
    with open(os.devnull) as empty:
        os.dup2(empty.fileno(), 0)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")

    def send(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind, **content}), file=messages, flush=True)

    job = json.loads(sys.argv[1])
    try:
        verify(job.pop("text"), Settings(**job), send)
    except (Unusable, ValueError) as error:  # ValueError: the checks say what they cannot do here
        send("unusable", text=str(error))
    send("end")
