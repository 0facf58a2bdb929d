"""Find the function that is meant by ``package.module:function``, ``path/to/file.py:function`` or a name."""

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

from . import peers
from .peers import Function

ARGUMENTS = {
    "forward": ("x",),
    "vjp": ("y", "dy"),
    "jvp": ("y", "dx"),
    "double-backward": ("y", "dy", "v"),
}


class Unusable(Exception):
    """There is nothing to verify: what was asked for, and what there is."""


class Broken(Exception):
    """The target's own module ends with an error; the text is its traceback."""


@dataclass(frozen=True)
class Target:
    function: Function
    arrays: str | None  # "numpy", "torch" or "jax"; None is still to be found out
    axis: str | None  # by which name it is told the axis
    about: str = ""
    device: str = "cpu"
    max_n: int | None = None
    package: str = ""
    module: ModuleType | None = None  # that it was found in


def found(text: str, map: str, what: str) -> Target:
    """The target that is meant.  Its module is imported, and what that prints or does is its own affair."""
    if ":" in text:
        place, _, name = text.rpartition(":")
        module = imported(place)
        function = named(module, name, text)
        return Target(function, None, axis_of(function, text, ARGUMENTS[what]), module=module)
    if text not in peers.PEERS and "." in text:
        raise Unusable(f"{text} names no function; give {text}:NAME")
    if text not in peers.PEERS:
        raise Unusable(
            f"there is no built-in {text}; there are {', '.join(peers.PEERS)}; "
            "or give package.module:function or path/to/file.py:function"
        )
    peer = peers.PEERS[text]
    if (map, what) not in peer.functions:
        raise Unusable(f"{text} has no {what} of {map}: {peer.lacks}")
    if reason := peers.why_not(peer):
        raise Unusable(f"{text} is {reason}" if reason.startswith("not") else f"{text} {reason}")
    try:
        function = peer.functions[map, what]()
    except Exception as error:
        raise Unusable(
            f"{text} {peers.version(peer)} is installed, but: {type(error).__name__}: {error}"
        ) from None
    axis = axis_of(function, text, ARGUMENTS[what])
    return Target(function, peer.arrays, axis, peer.about, peer.device, peer.max_n, peer.package)


# --- modules ------------------------------------------------------------------------------------------


def imported(place: str) -> ModuleType:
    """A module by its name, as `python -m` finds it, or by its file, as `python file.py` runs it."""
    by_file = place.endswith(".py") or os.sep in place
    if by_file and not place.endswith(".py"):
        raise Unusable(f"{place} does not end in .py")
    if by_file and not Path(place).is_file():
        raise Unusable(f"there is no file {place}")
    if not by_file and not all(part.isidentifier() for part in place.split(".")):
        raise Unusable(f"{place!r} is neither the name of a module nor a file that ends in .py")
    try:
        return from_file(Path(place)) if by_file else from_name(place)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not by_file and (place == missing or place.startswith(f"{missing}.")):
            raise Unusable(f"there is no module {missing}, neither installed nor in {Path.cwd()}") from None
        raise Unusable(f"{place} imports {missing}, which is not installed") from None
    except Exception as error:
        if isinstance(error, ImportError) and "no known parent package" in str(error):
            raise Unusable(f"{place} imports from its package; give it as package.module:function") from None
        raise Broken(traceback.format_exc()) from None
    except SystemExit:
        raise Broken(traceback.format_exc()) from None


def from_name(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def from_file(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.absolute().parent))  # for what lies beside it
    name = f"verified_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def named(module: ModuleType, name: str, text: str) -> Function:
    try:
        function: Any = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        raise Unusable(f"{text}: there is no {name or 'name'} there; {offered(module)}") from None
    if inspect.isclass(function) or not callable(function):
        kind = "a class" if inspect.isclass(function) else f"of type {type(function).__name__}"
        raise Unusable(f"{text} is {kind}, not a function; {offered(module)}")
    called: Function = function
    return called


def offered(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and not inspect.isclass(value)
        and getattr(value, "__module__", None) == module.__name__
    ]
    return f"it has {', '.join(own)}" if own else "it has no functions"


# --- functions ----------------------------------------------------------------------------------------


def axis_of(function: Function, text: str, arguments: tuple[str, ...]) -> str | None:
    """By which name the function takes an axis, "axis" or "dim", if it does.

    One that cannot be called with the arguments and that alone is refused.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in, say, that tells nothing
        return None
    by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    takes = [name for name, parameter in signature.parameters.items() if parameter.kind in by_name]
    axis = next((name for name in ("axis", "dim") if name in takes), None)
    try:
        signature.bind(*arguments, **({axis: -1} if axis else {}))
    except TypeError as error:
        if hasattr(function, "__wrapped__"):  # the signature is that of what is within
            return None
        called = ", ".join(arguments)
        raise Unusable(
            f"{text}{signature} cannot be called with ({called}): {error}; give a function of these alone"
        ) from None
    return axis
