"""The process in which a target is run: it may crash, exit or print there, and the command goes on.

It is told what to do in its arguments, and says what it found in lines of JSON on its standard output; what
the target prints goes to standard error.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import testing
from . import convert
from .target import ARGUMENTS, Broken, Target, Unusable, found


def as_called(target: Target, swapped: bool) -> Callable[..., Any]:
    """The target as the checks call it: y first, the axis as `axis`."""

    @functools.wraps(target.function)
    def call(*given: Any, axis: int = -1) -> Any:
        if swapped:
            given = (given[1], given[0], *given[2:])
        options = {target.axis: axis} if target.axis else {}  # told always: it may take another if it is not
        try:
            return target.function(*given, **options)
        except SystemExit as error:
            raise RuntimeError(f"the function ended the program by {error!r}") from error

    return call


def verify(
    text: str,
    *,
    map: str,
    what: str,
    level: str,
    dtypes: list[str],
    max_n: int | None,
    device: str | None,
    seed: int,
    swapped: bool,
    say: Callable[..., None],
) -> None:
    target = found(text, map, what)
    device = device or target.device
    called = as_called(target, swapped)
    arrays = target.arrays or convert.library_of(called, len(ARGUMENTS[what]))
    function = convert.on_numpy(called, arrays, device)
    longest = [n for n in (max_n, target.max_n) if n is not None]
    options: dict[str, Any] = {
        "map": map,
        "level": level,
        "dtypes": tuple(dtypes),
        "max_n": min(longest, default=None),
        "axis": (-1, 0) if target.axis else None,
        "seed": seed,
    }
    say(
        "begin",
        about=target.about,
        package=target.package,
        arrays=arrays,
        device=device,
        max_n=options["max_n"],
        count=testing.count(what, **options),
    )
    testing.run(
        what, function, report=lambda finding: say("finding", **dataclasses.asdict(finding)), **options
    )
    say("end")


def main() -> None:
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")

    def say(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind, **content}), file=messages, flush=True)

    try:
        verify(**json.loads(sys.argv[1]), say=say)
    except Unusable as error:
        say("unusable", text=str(error))
    except Broken as error:
        say("broken", text=str(error))
