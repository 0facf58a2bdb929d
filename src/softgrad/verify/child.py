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
from ..testing.options import parse
from ..testing.run import findings, unusual
from .run import Settings, failure
from .target import Broken, Unusable, find


def verify(text: str, settings: Settings, send: Callable[..., None]) -> None:
    what: Any = settings.what
    target = find(text, settings.map, what, settings.swapped)
    function, arrays, device = target.on_numpy(what, settings.device)
    peer = target.peer
    longest = min((n for n in (settings.max_n, peer.max_n) if n is not None), default=None)
    options: Any = {
        "map": settings.map,
        "level": settings.level,
        "dtypes": settings.dtypes,
        "axis": 0 if target.axis else None,  # along −1 it is called without
        "max_n": longest,
        "seed": settings.seed,
    }
    send(
        "begin",
        about=peer.about,
        package=peer.package,
        arrays=arrays,
        device=device,
        max_n=longest,
        planned=testing.planned(what, **options),
    )
    given = unusual(
        what=(what, "vjp"),
        map=(settings.map, "softmax"),
        swapped=(settings.swapped, False),
        device=(device, "cpu"),
    )
    code = "softgrad.testing, softgrad.verify", f"softgrad.verify.load({text!r}{given})"
    for finding in findings(what, function, parse(options), code=code):
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
    except Broken as error:
        why = "a module that cannot be imported has no function to check"
        send("finding", **dataclasses.asdict(failure("import", why, str(error))))
    send("end")
