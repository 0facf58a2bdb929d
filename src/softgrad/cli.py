"""The command `softgrad`.  Each command imports what it needs when it runs."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

# The root of what a wrong option raises, whichever package the installed Typer has it from.
UsageError: Any = typer.BadParameter.__base__


class OneLine(typer.core.TyperGroup):
    """Errors in what was typed are told in one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **options) or 0)
        except UsageError as error:
            print(f"softgrad: {' '.join(error.format_message().split())}", file=sys.stderr)
            sys.exit(2)
        except (typer.Abort, KeyboardInterrupt):
            print("softgrad: stopped; nothing was written", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=OneLine,
    add_completion=False,
    no_args_is_help=True,
    help="Exact softmax gradients, without the Jacobian.",
)


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


def version(wanted: bool) -> None:
    if wanted:
        from softgrad import __version__

        print(f"softgrad {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


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
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"the folder {folder} cannot be written to; give another", param_hint=option)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at no time half of it is there."""
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # mkstemp lets the owner alone read
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@app.command()
def reproduce(
    batch: Annotated[int, typer.Option(parser=whole_from(1), metavar="INT", help="Rows of the array.")] = 32,
    features: Annotated[
        int, typer.Option(parser=whole_from(2), metavar="INT", help="Numbers in a row.")
    ] = 512,
    dtype: Annotated[
        str, typer.Option(parser=dtype_name, metavar="DTYPE", help=f"Of all arrays: {', '.join(DTYPES)}.")
    ] = "float64",
    seed: Annotated[
        int, typer.Option(parser=whole_from(0), metavar="INT", help="Of the random input and gradient.")
    ] = 42,
    json: Annotated[
        Path | None, typer.Option(help="Write what was measured to this file; - is standard output.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw time and memory against n to this file, .png or .svg.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Take few samples, for a look.")] = False,
) -> None:
    """Compare three ways to a softmax layer's gradient: are they equal, how long, how much memory?"""
    largest = 2**22
    if batch * features > largest:
        raise typer.BadParameter(
            f"{batch} × {features} is {batch * features:,} numbers; up to {largest:,} are taken",
            param_hint="'--batch' × '--features'",
        )
    writable(json, "'--json'")
    writable(plot, "'--plot'")
    if plot is not None:
        if plot.suffix.lower() not in (".png", ".svg"):
            raise typer.BadParameter(
                f"{plot} ends in {plot.suffix or 'nothing'}; it takes .png or .svg", param_hint="'--plot'"
            )
        if importlib.util.find_spec("matplotlib") is None:
            raise typer.BadParameter(
                "drawing needs matplotlib: pip install 'softgrad[plot]'", param_hint="'--plot'"
            )

    from rich.console import Console

    from .bench import report as reports
    from .bench.reproduce import Settings, run

    report = run(Settings(batch, features, dtype, seed, quick), with_sizes=plot is not None)
    to_stdout = json is not None and str(json) == "-"
    if plot is not None:
        from .bench.plot import picture

        write_whole(plot, picture(report, plot.suffix.lower().lstrip(".")))
    if to_stdout:
        sys.stdout.write(reports.as_json(report))
    else:
        reports.show(report, Console())
        if json is not None:
            write_whole(json, reports.as_json(report).encode())
    if not report.passed:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
