"""Parsers of the commands' options, for Typer, which puts the option's name before an error."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from .machine import processors

# The root of what a wrong option raises, whichever package the installed Typer has it from.
UsageError: Any = typer.BadParameter.__base__

DTYPES = "float16", "bfloat16", "float32", "float64"


def refusal(text: str | int, takes: str) -> typer.BadParameter:
    return typer.BadParameter(f"{str(text) or 'nothing'} was given; it takes {takes}")


def is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def parts(text: str) -> list[str]:
    """The words between commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


# --- words and numbers --------------------------------------------------------------------------------


def whole_from(smallest: int) -> Callable[[str | int], int]:
    """A parser of whole numbers, `smallest` or above."""

    def whole(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise refusal(text, f"a whole number from {smallest} up")
        return number

    return whole


def one_of(*choices: str) -> Callable[[str], str]:
    def word(text: str) -> str:
        if text not in choices:
            raise refusal(text, " or ".join(choices))
        return text

    return word


def some_of(*choices: str) -> Callable[[str], list[str]]:
    def words(text: str) -> list[str]:
        for word in parts(text):
            if word not in choices:
                raise refusal(word, f"some of {', '.join(choices)}")
        return parts(text)

    return words


def dtype(text: str) -> str:
    if text not in DTYPES:
        raise refusal(text, f"{', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    return text


def dtypes(text: str) -> list[str]:
    return list(map(dtype, parts(text)))


def shapes(text: str) -> list[tuple[int, ...]]:
    found = []
    for part in parts(text):
        lengths = part.replace("×", "x").split("x")
        if not all(is_whole(length) and int(length) for length in lengths):
            raise refusal(part, "shapes such as 32x512,8x16x64")
        found.append(tuple(map(int, lengths)))
    return found


def threads(text: str) -> list[int]:
    for part in parts(text):
        if not (is_whole(part) and 1 <= int(part) <= processors()):
            raise refusal(part, f"numbers from 1 to {processors()}, the processors here")
    return list(map(int, parts(text)))


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
    need_matplotlib()
    return page(text)


def plot(text: str | Path) -> Path:
    path = output(text)
    if path.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"{path} ends in {path.suffix or 'nothing'}; it takes .png or .svg")
    need_matplotlib()
    return path


def need_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise typer.BadParameter("drawing needs matplotlib: pip install 'softgrad[plot]'")


def check_apart(**files: Path | None) -> None:
    """Refuse options that name the same file."""
    given: dict[Path, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        other = given.setdefault(path.absolute(), option)
        if other != option:
            raise typer.BadParameter(
                f"{path} is that of '--{other}' too; give another", param_hint=f"'--{option}'"
            )
