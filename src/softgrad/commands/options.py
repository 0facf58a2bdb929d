"""What options take, and files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

# The root of what a wrong option raises, whichever package the installed Typer has it from.
UsageError: Any = typer.BadParameter.__base__

DTYPES = "float16", "bfloat16", "float32", "float64"


def whole_from(smallest: int) -> Callable[[str | int], int]:
    """What turns the text of an option into a whole number, `smallest` or above."""

    def whole(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise typer.BadParameter(f"{text} was given; it takes a whole number from {smallest} up")
        return number

    return whole


def dtype_name(text: str) -> str:
    if text not in DTYPES:
        raise typer.BadParameter(f"{text} was given; it takes {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """What lets one of these words through."""

    def word(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text} was given; it takes {' or '.join(choices)}")
        return text

    return word


def dtype_names(text: str) -> str:
    return ",".join(dict.fromkeys(dtype_name(name.strip()) for name in text.split(",")))


def writable(path: Path | None, option: str) -> None:
    """Refuse before the work what could not be written after it."""
    if path is None or str(path) == "-":
        return
    folder = path.absolute().parent
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; give the name of a file", param_hint=option)
    if not folder.is_dir():
        raise typer.BadParameter(
            f"there is no folder {folder}; make it, or give another file", param_hint=option
        )
    try:
        if not path.exists() or path.is_file():  # a device, or a pipe, is written to as it is
            tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise typer.BadParameter(
            f"the folder {folder} cannot be written to; give another", param_hint=option
        ) from None


def apart(files: dict[str, Path | None]) -> None:
    """Refuse options that name the same file."""
    given = [(option, path.absolute()) for option, path in files.items() if path is not None]
    for i, (option, path) in enumerate(given):
        for other, same in given[:i]:
            if same == path:
                raise typer.BadParameter(f"{path} is that of {other} too; give another", param_hint=option)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at no time half of it is there, or to a device; a link is followed."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # mkstemp lets the owner alone read
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
