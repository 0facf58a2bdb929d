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
from ..testing.operations import Level, What
from ..testing.options import CheckOptions, parse
from ..testing.run import findings
from .target import Broken, Unusable, find


def verify(
    text: str,
    *,
    map: str,
    what: What,
    level: Level,
    dtypes: list[str],
    max_n: int | None,
    device: str | None,
    seed: int,
    swapped: bool,
    send: Callable[..., None],
) -> None:
    target = find(text, map, what, swapped)
    function, arrays, device = target.on_numpy(what, device)
    longest = min((n for n in (max_n, target.max_n) if n is not None), default=None)
    options: CheckOptions = {
        "map": map,
        "level": level,
        "dtypes": dtypes,
        "axis": 0 if target.convention.axis else None,  # along −1 it is called without
        "max_n": longest,
        "seed": seed,
    }
    planned = testing.planned(what, **options)
    about = {"about": target.about, "package": target.package}
    send("begin", arrays=arrays, device=device, max_n=longest, planned=planned, **about)
    load = {"what": (what, "vjp"), "map": (map, "softmax"), "swapped": (swapped, False)}
    load["device"] = (device, "cpu")
    given = "".join(f", {name}={value!r}" for name, (value, usual) in load.items() if value != usual)
    code = "softgrad.testing, softgrad.verify", f"softgrad.verify.load({text!r}{given})"
    for finding in findings(what, function, parse(options), code=code):
        send("finding", **dataclasses.asdict(finding))
    send("end")


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

    try:
        verify(**json.loads(sys.argv[1]), send=send)
    except (Unusable, ValueError) as error:  # ValueError: the checks say what they cannot do here
        send("unusable", text=str(error))
    except Broken as error:
        send("broken", text=str(error))
