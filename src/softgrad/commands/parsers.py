"""Parsers of the commands' options, for Typer, which puts the option's name before an error."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from .machine import processors

# The base of Typer's errors, from whichever package the installed version has them.
UsageError: Any = typer.BadParameter.__base__

ROLES = "x", "y", "dy", "dx", "v", "t"
DTYPES = "float16", "bfloat16", "float32", "float64"


def option(default: Any, parse: Callable[[str], Any], metavar: str, help: str) -> Any:
    return typer.Option(default, parser=parse, metavar=metavar, help=help)


def file(parse: Callable[[str], Any], help: str) -> Any:
    return option(None, parse, "PATH", help)


def refusal(text: str | int, takes: str) -> typer.BadParameter:
    return typer.BadParameter(f"{str(text) or 'nothing'} was given; it takes {takes}")


def natural(text: str | int) -> int:
    """The number, or -1 if it is none."""
    digits = str(text)
    return int(digits) if digits.isascii() and digits.isdecimal() else -1


def whole_from(smallest: int) -> Callable[[str | int], int]:
    def whole(text: str | int) -> int:
        if natural(text) < smallest:
            raise refusal(text, f"a whole number from {smallest} up")
        return int(text)

    return whole


def one_of(*choices: str) -> Callable[[str], str]:
    def word(text: str) -> str:
        if text not in choices:
            raise refusal(text, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return word


def one_in(module: str, table: str) -> Callable[[str], str]:
    """A parser of the names in a table of softgrad, whose module is not imported before."""
    return lambda text: one_of(*getattr(importlib.import_module(f"softgrad.{module}"), table))(text)


def several(parse: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """A parser of a list with commas; of equal elements one remains."""
    return lambda text: list(dict.fromkeys(parse(part.strip()) for part in text.split(",")))


def shape(text: str) -> tuple[int, ...]:
    lengths = tuple(map(natural, text.replace("×", "x").split("x")))
    if min(lengths) < 1:
        raise refusal(text, "shapes such as 32x512,8x16x64")
    return lengths


def number_of_threads(text: str) -> int:
    if not 1 <= natural(text) <= processors():
        raise refusal(text, f"numbers from 1 to {processors()}, the processors here")
    return int(text)


def roles(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The roles of arguments."""
    return tuple(map(one_of(*ROLES), text.split(","))) if isinstance(text, str) else text


map_name = one_in("testing.operations", "NAMES")
dtypes, shapes, threads = several(one_of(*DTYPES)), several(shape), several(number_of_threads)
ops, peers = several(one_in("bench.cases", "OPS")), several(one_in("verify.peers", "PEERS"))


# --- files: refused before the work, if they could not be written after it -------------------------------


def output(text: str | Path) -> Path:
    """A file that can be written, or - for standard output."""
    path = Path(text)
    if str(path) == "-":
        return path
    folder = path.absolute().parent
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; give the name of a file")
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {folder}; make it, or give another file")
    try:
        if not path.exists() or path.is_file():  # a device, or a pipe, is written to as it is
            tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise typer.BadParameter(f"the folder {folder} cannot be written to; give another") from None
    return path


def page(text: str | Path) -> Path:
    if str(text) == "-":
        raise typer.BadParameter("it takes the name of a file; --json takes -")
    return output(text)


def plotted_page(text: str | Path) -> Path:
    return drawn(page(text))


def plot(text: str | Path) -> Path:
    path = output(text)
    if path.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"{path} ends in {path.suffix or 'nothing'}; it takes .png or .svg")
    return drawn(path)


def drawn(path: Path) -> Path:
    if importlib.util.find_spec("matplotlib") is None:
        raise typer.BadParameter("drawing needs matplotlib: pip install 'softgrad[plot]'")
    return path


def check_apart(**files: Path | None) -> None:
    """Refuse options that name the same file."""
    options: dict[Path, str] = {}
    for option, path in files.items():
        if path is not None and (other := options.setdefault(path.absolute(), option)) != option:
            why = f"{path} is that of '--{other}' too; give another"
            raise typer.BadParameter(why, param_hint=f"'--{option}'")
