"""A target: the function that is meant, how it is called, and the same as a function of NumPy arrays.

*Find*: ``package.module:function``, ``path/to/file.py:function`` or a built-in name leads to a function.
*Call*: the order of its arguments and the name of its axis.  *Convert*: its arrays, in convert.py.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from . import convert, peers
from .convert import Unusable as Unusable
from .peers import Function, Peer

ARGUMENTS = {
    "forward": ("x",),
    "vjp": ("y", "dy"),
    "jvp": ("y", "dx"),
    "double-backward": ("y", "dy", "v"),
}


class Broken(Exception):
    """The target's own module ends with an error; the text is its traceback."""


@dataclass(frozen=True)
class Target:
    """A function as the checks call it, y first and its axis as `axis`, and where it was found."""

    function: Function
    axis: str | None  # the name of its axis
    peer: Peer
    module: ModuleType | None

    def on_numpy(self, what: str, device: str | None = None) -> tuple[Function, str, str]:
        """The function on NumPy arrays, the library of its own arrays, and their device."""
        device = device or self.peer.device
        arrays = self.peer.arrays or convert.library_of(self.function, len(ARGUMENTS[what]), self.module)
        return convert.on_numpy(self.function, arrays, device), arrays, device


def load(
    target: str,
    *,
    what: str = "vjp",
    map: str = "softmax",
    swapped: bool = False,
    device: str | None = None,
) -> Function:
    """The function that ``softgrad verify TARGET`` runs the checks on.

    Parameters
    ----------
    target : str
        ``package.module:function``, ``path/to/file.py:function`` or a built-in name.
    what, map, device
        As the command's options.
    swapped : bool
        Whether the function takes (dy, y).

    Returns
    -------
    callable
        Of NumPy arrays, whichever library's the target takes.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad.verify import load
    >>> load("numpy")(np.array([0.5, 0.5]), np.array([1.0, 3.0]))
    array([-0.5,  0.5])
    """
    return find(target, map, what, swapped).on_numpy(what, device)[0]


# --- find ----------------------------------------------------------------------------------------------


def find(text: str, map: str, what: str, swapped: bool = False) -> Target:
    """The target that is meant.  Its module is imported, and what that prints or does is its own affair."""
    if ":" in text:
        place, _, name = text.rpartition(":")
        peer, module = Peer("", {}, package="", arrays=""), import_module(place)
        function = function_in(module, name, text)
    else:
        peer, module = named(text), None
        function = function_of(peer, text, map, what)
    axis = axis_of(function, text, ARGUMENTS[what])
    return Target(adapted(function, swapped, axis), axis, peer, module)


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
        raise Broken(traceback.format_exc()) from None


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


def function_in(module: ModuleType, name: str, text: str) -> Function:
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and callable(value)
        and not inspect.isclass(value)
        and getattr(value, "__module__", None) == module.__name__
    ]
    offered = f"it has {', '.join(own)}" if own else "it has no functions"
    try:
        function: Any = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        raise Unusable(f"{text}: there is no {name or 'name'} there; {offered}") from None
    if inspect.isclass(function) or not callable(function):
        kind = "a class" if inspect.isclass(function) else f"of type {type(function).__name__}"
        raise Unusable(f"{text} is {kind}, not a function; {offered}")
    result: Function = function
    return result


# --- call ----------------------------------------------------------------------------------------------


def adapted(function: Function, swapped: bool, name: str | None) -> Function:
    """The function as the checks call it: y first, though it takes dy first, and the axis of that name."""

    def called(*args: Any, axis: int = -1) -> Any:
        if swapped:
            args = (args[1], args[0], *args[2:])
        try:
            # the axis is always given: its default may be another
            return function(*args, **({name: axis} if name else {}))
        except SystemExit as error:
            ended = RuntimeError(f"the function ended the program by {error!r}")
            raise ended.with_traceback(error.__traceback__) from None

    return called


def axis_of(function: Function, text: str, arguments: tuple[str, ...]) -> str | None:
    """The name of the function's axis, "axis" or "dim", if it has one.

    A function that cannot be called with the arguments and the axis alone is refused.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in, say, that has none
        return None
    by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    names = [name for name, parameter in signature.parameters.items() if parameter.kind in by_name]
    axis = next((name for name in ("axis", "dim") if name in names), None)
    try:
        signature.bind(*arguments, **({axis: -1} if axis else {}))
    except TypeError as error:
        if hasattr(function, "__wrapped__"):  # the signature is that of the function within
            return None
        called = ", ".join(arguments)
        raise Unusable(
            f"{text}{signature} cannot be called with ({called}): {error}; give a function of these alone"
        ) from None
    return axis
