"""A target: what is meant by its text, and how it is called.

*Find*: ``package.module:name``, ``path/to/file.py:name`` or a built-in name leads to a function, a class or a
layer.  *Call*: `softgrad.testing.conventions` finds out how.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..testing import conventions, convert
from ..testing.conventions import Reading
from ..testing.convert import Unusable as Unusable
from ..testing.operations import ARGUMENTS, Level, What
from ..testing.ways import bound, parameters_of
from . import peers
from .peers import Function, Peer


@dataclass(frozen=True)
class Target:
    """What a text means."""

    text: str
    object: Any
    peer: Peer
    module: ModuleType | None

    def reading(
        self,
        what: What,
        map: str,
        args: tuple[str, ...] | None = None,
        axis: str | None = None,
        level: Level = "sound",
        dtype: str = "float32",
        device: str | None = None,
    ) -> Reading:
        """How it is called; a built-in is called as the checks do."""
        if self.peer.arrays:
            if args or axis:
                raise Unusable(f"{self.text} is a built-in name: --args and --axis are for code of your own")
            function, takes_axis = by_name(self.object, what)
            device = device or self.peer.device
            called = f"{self.text}({', '.join(ARGUMENTS[what])}): {self.peer.about}"
            return Reading(
                convert.on_numpy(function, self.peer.arrays, device), called, self.peer.arrays, takes_axis
            )
        return conventions.find(
            self.object,
            self.text.rpartition(":")[2],
            what,
            map,
            roles=args,
            axis=axis,
            level=level,
            dtype=dtype,
            device=device,
            module=self.module,
        )


def by_name(function: Function, what: str) -> tuple[Function, bool]:
    """A built-in as the checks call it, and whether it takes an axis."""
    taken = parameters_of(function, what)
    return bound(function, taken, len(ARGUMENTS[what])), bool(taken and taken.axis)


def load(
    target: str,
    *,
    what: What = "vjp",
    map: str = "softmax",
    args: str | None = None,
    axis: str | None = None,
    device: str | None = None,
) -> Function:
    """The function that ``softgrad verify TARGET`` runs the checks on.

    Parameters
    ----------
    target : str
        ``package.module:name``, ``path/to/file.py:name`` or a built-in name.
    what, map, args, axis, device
        As the command's options.

    Returns
    -------
    callable
        Of NumPy arrays in rows, y first, whatever the target takes.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad.verify import load
    >>> load("numpy")(np.array([0.5, 0.5]), np.array([1.0, 3.0]))
    array([-0.5,  0.5])
    """
    roles = tuple(args.split(",")) if args else None
    return find(target, map, what).reading(what, map, roles, axis, device=device).function


# --- find ----------------------------------------------------------------------------------------------


def find(text: str, map: str, what: str) -> Target:
    """The target that is meant.  Its module is imported, and what that prints or does is its own affair."""
    if ":" in text:
        place, _, name = text.rpartition(":")
        module = import_module(place)
        return Target(text, object_in(module, name, text), Peer("", {}, package="", arrays=""), module)
    peer = named(text)
    return Target(text, function_of(peer, text, map, what), peer, None)


def named(text: str) -> Peer:
    if text in peers.PEERS:
        return peers.PEERS[text]
    if "." in text:
        raise Unusable(f"{text} names no function; give {text}:NAME")
    raise Unusable(
        f"there is no built-in {text}; there are {', '.join(peers.PEERS)}; "
        "or give package.module:function or path/to/file.py:function"
    )


def function_of(peer: Peer, text: str, map: str, what: str) -> Function:
    if (map, what) not in peer.functions:
        raise Unusable(f"{text} has no {what} of {map}: {peer.lacks}")
    if reason := peers.why_not(peer):
        raise Unusable(f"{text} is {reason}" if reason.startswith("not") else f"{text} {reason}")
    try:
        return peer.functions[map, what]()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise Unusable(f"{text} {peers.version(peer)} is installed, but: {reason}") from None


def import_module(place: str) -> ModuleType:
    """A module by its name, as `python -m` finds it, or by its file, as `python file.py` runs it."""
    by_file = place.endswith(".py") or os.sep in place
    if by_file and not place.endswith(".py"):
        raise Unusable(f"{place} does not end in .py")
    if by_file and not Path(place).is_file():
        raise Unusable(f"there is no file {place}")
    if not by_file and not all(part.isidentifier() for part in place.split(".")):
        raise Unusable(f"{place!r} is neither the name of a module nor a file that ends in .py")
    try:
        return import_file(Path(place)) if by_file else import_name(place)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not by_file and (place == missing or place.startswith(f"{missing}.")):
            raise Unusable(f"there is no module {missing}, neither installed nor in {Path.cwd()}") from None
        raise Unusable(f"{place} imports {missing}, which is not installed") from None
    except (Exception, SystemExit) as error:
        if isinstance(error, ImportError) and "no known parent package" in str(error):
            raise Unusable(f"{place} imports from its package; give it as package.module:function") from None
        raise Unusable(f"{place} cannot be imported: {conventions.raised(error)}") from None


def import_name(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def import_file(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.absolute().parent))  # for its neighbours
    name = f"verified_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def object_in(module: ModuleType, name: str, text: str) -> Any:
    """What the module has of that name; of a method that needs a layer, its class."""
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) == module.__name__
    ]
    offered = f"it has {', '.join(own)}" if own else "it has no functions"
    try:
        holder: Any = functools.reduce(getattr, name.split(".")[:-1], module)
        result: Any = getattr(holder, name.split(".")[-1])
    except AttributeError:
        raise Unusable(f"{text}: there is no {name or 'name'} there; {offered}") from None
    if inspect.isclass(holder):
        static = isinstance(inspect.getattr_static(holder, name.split(".")[-1]), staticmethod | classmethod)
        first = next(iter(inspect.signature(result).parameters), "") if callable(result) else ""
        if not static or first in ("ctx", "context"):
            return holder
    if not callable(result) and not hasattr(result, "backward"):
        raise Unusable(f"{text} is of type {type(result).__name__}, not a function; {offered}")
    return result
