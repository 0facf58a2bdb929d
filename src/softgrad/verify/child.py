"""The process in which a target is run: it may crash, exit or print there, and the command goes on.

It is told what to do in its arguments, and says what it found in lines of JSON on its standard output; what
the target prints goes to standard error.
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
from ..testing.options import CheckOptions
from .loading import prepared
from .target import ARGUMENTS, Broken, Unusable, found


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
    say: Callable[..., None],
) -> None:
    target = prepared(found(text, map, what), len(ARGUMENTS[what]), swapped, device)
    longest = min((n for n in (max_n, target.max_n) if n is not None), default=None)
    options: CheckOptions = {
        "map": map,
        "level": level,
        "dtypes": tuple(dtypes),
        "axis": 0 if target.axis else None,  # along −1 they are called without
        "max_n": longest,
        "seed": seed,
    }
    say(
        "begin",
        about=target.about,
        package=target.package,
        arrays=target.arrays,
        device=target.device,
        max_n=longest,
        planned=testing.planned(what, **options),
    )

    def report(finding: testing.Finding) -> None:
        say("finding", **dataclasses.asdict(finding))

    testing.run(what, target.function, **options, report=report)
    say("end")


def end_with(life: int) -> None:
    """End when nobody holds the other end of `life` any more: the command is gone."""
    os.read(life, 1)
    os._exit(1)


def main() -> None:
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=end_with, args=(os.dup(0),), daemon=True).start()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")

    def say(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind, **content}), file=messages, flush=True)

    try:
        verify(**json.loads(sys.argv[1]), say=say)
    except (Unusable, ValueError) as error:  # ValueError: the checks say what they cannot do here
        say("unusable", text=str(error))
    except Broken as error:
        say("broken", text=str(error))
