"""The command `softgrad`.  Each command imports what it needs when it runs."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .commands.options import (
    DTYPES,
    UsageError,
    apart,
    dtype_name,
    dtype_names,
    one_of,
    whole_from,
    writable,
    write_whole,
)

STOPPED = 130


class OneLine(typer.core.TyperGroup):
    """Errors in what was typed are told in one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # of what the terminal's encoding lacks
        try:
            code = super().main(*args, **options) or 0
            if code == STOPPED:
                raise KeyboardInterrupt
            sys.stdout.flush()
            sys.exit(code)
        except UsageError as error:
            print(f"softgrad: {' '.join(error.format_message().split())}", file=sys.stderr)
            sys.exit(2)
        except (typer.Abort, KeyboardInterrupt):
            print("softgrad: stopped; nothing was written", file=sys.stderr)
            sys.exit(STOPPED)
        except OSError as error:  # a full disk, a pipe that nobody reads
            print(f"softgrad: {error}", file=sys.stderr)
            os._exit(2)


app = typer.Typer(
    cls=OneLine,
    add_completion=False,
    no_args_is_help=True,
    help="Exact softmax gradients, without the Jacobian.",
)


LEAGUE = Path("docs/league.md")


def map_name(text: str) -> str:
    from .specs import MAPS

    return one_of(*MAPS)(text)


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
    drawable(plot)

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


def drawable(plot: Path | None) -> None:
    """Refuse before the work a plot that could not be drawn after it."""
    writable(plot, "'--plot'")
    if plot is None:
        return
    if plot.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(
            f"{plot} ends in {plot.suffix or 'nothing'}; it takes .png or .svg", param_hint="'--plot'"
        )
    needs_matplotlib("'--plot'")


def needs_matplotlib(option: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise typer.BadParameter("drawing needs matplotlib: pip install 'softgrad[plot]'", param_hint=option)


@app.command()
def verify(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET", help="package.module:function, path/to/file.py:function, or a name of --list."
        ),
    ] = None,
    args: Annotated[
        str | None,
        typer.Option(
            parser=one_of("y,dy", "dy,y"),
            metavar="y,dy|dy,y",
            help="In which order it takes them; y first unless given.",
        ),
    ] = None,
    what: Annotated[
        str | None,
        typer.Option(
            parser=one_of("vjp", "forward", "jvp", "double-backward"),
            metavar="WHAT",
            help="What it computes: vjp (unless given), forward, jvp or double-backward.",
        ),
    ] = None,
    map: Annotated[
        str | None,
        typer.Option(
            parser=map_name,
            metavar="MAP",
            help="Of softmax (unless given), log_softmax, sparsemax or entmax (α = 1.5).",
        ),
    ] = None,
    dtypes: Annotated[
        str, typer.Option(parser=dtype_names, metavar="DTYPE,…", help=f"Of {', '.join(DTYPES)}.")
    ] = "float32,float64",
    max_n: Annotated[
        int | None,
        typer.Option(parser=whole_from(1), metavar="INT", help="The longest row that it can take."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Where PyTorch's or JAX's arrays are put: cpu, cuda, …"),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            parser=one_of("sound", "tight"),
            metavar="sound|tight",
            help="Within the error of plain code (unless given), or of softgrad's own contract.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(parser=whole_from(0), metavar="INT", help="Of the random cases.")] = 0,
    json: Annotated[
        Path | None, typer.Option(help="Write what was found to this file; - is standard output.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page of what was found to this file.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the built-in names, and why one is not here.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help=f"Verify all of --list at both levels, and write {LEAGUE}.")
    ] = False,
) -> None:
    """Is this softmax backward right, how exact is it, and on which input does it break?

    The target is a function of NumPy, PyTorch or JAX arrays: (y, dy) → dx for a vjp, x → y for a forward,
    (y, dx) → dy for a jvp, (y, dy, v) → (grad_x, grad_dy) for a double backward.  The exit code is 0 if all
    checks pass, 1 if one fails, 2 if there is nothing to verify.  A function with a parameter axis or dim is
    tested along the first axis, too.
    """
    if (target is not None) + list_ + all_ != 1:
        raise typer.BadParameter("give one TARGET, or --list, or --all", param_hint="'verify'")
    only_of_one = {"--args": args, "--device": device, "--level": level, "--json": json, "--html": html}
    for option, value in only_of_one.items():
        if target is None and value is not None:
            raise typer.BadParameter("it goes with a TARGET", param_hint=f"'{option}'")
    if what == "forward" and args is not None:
        raise typer.BadParameter("a forward takes x alone", param_hint="'--args'")
    if str(html) == "-":
        raise typer.BadParameter("it takes the name of a file; --json takes -", param_hint="'--html'")
    writable(json, "'--json'")
    writable(html, "'--html'")
    apart({"'--json'": json, "'--html'": html})
    if all_:
        writable(LEAGUE, "'--all'")

    from rich.console import Console

    from .commands.progress import Bar
    from .verify import report as reports
    from .verify.run import Settings, run
    from .verify.target import Unusable

    console = Console()
    settings = Settings(
        map=map or "softmax",
        what=what or "vjp",
        level=level or "sound",
        dtypes=tuple(dtypes.split(",")),
        max_n=max_n,
        device=device,
        seed=seed,
        swapped=args == "dy,y",
    )
    if target is None:
        if list_:
            console.print(reports.listing())
            return
        if not league_table(settings, map, what, console):
            raise typer.Exit(1)
        return
    try:
        with Bar(1) as bar:
            bar.phase(target)
            verdict = run(target, settings, bar.part)
    except Unusable as error:
        raise UsageError(str(error)) from None
    if html is not None:
        from .verify.page import as_html

        write_whole(html, as_html(verdict).encode())
    if json is not None and str(json) == "-":
        sys.stdout.write(reports.as_json(verdict))
    else:
        reports.show(verdict, console)
        if json is not None:
            write_whole(json, reports.as_json(verdict).encode())
    if not verdict.passed:
        raise typer.Exit(1)


def taken(parse: Callable[..., Any], *given: Any, option: str) -> Any:
    """What `parse` makes of an option; what it says is wrong is told as the option's error."""
    try:
        return parse(*given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


@app.command()
def bench(
    op: Annotated[
        str, typer.Option(metavar="OP,…", help="Functions of softgrad: softmax, softmax_vjp, entmax_jvp, …")
    ] = "softmax,softmax_vjp",
    shapes: Annotated[
        str | None,
        typer.Option(metavar="SHAPE,…", help="Such as 32x512,8x16x64; a sweep over n unless given."),
    ] = None,
    axis: Annotated[int, typer.Option(metavar="INT", help="Along which the functions go.")] = -1,
    dtypes: Annotated[
        str, typer.Option(parser=dtype_names, metavar="DTYPE,…", help=f"Of {', '.join(DTYPES)}.")
    ] = "float32",
    threads: Annotated[str, typer.Option(metavar="INT,…", help="How many each library may use.")] = "1",
    peers: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Of `softgrad verify --list`; all that are here unless given."),
    ] = None,
    device: Annotated[
        str, typer.Option(parser=one_of("cpu", "cuda"), metavar="cpu|cuda", help="Where the arrays are.")
    ] = "cpu",
    json: Annotated[
        Path | None, typer.Option(help="Write what was measured to this file; - is standard output.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw speed, memory and error against n to this file, .png or .svg.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page of tables and plots to this file.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer sizes and samples, for a look.")] = False,
) -> None:
    """Implementations side by side: time, memory, error, and how near to the limit of the machine."""
    writable(json, "'--json'")
    drawable(plot)
    writable(html, "'--html'")
    apart({"'--json'": json, "'--plot'": plot, "'--html'": html})
    if html is not None:
        needs_matplotlib("'--html'")

    from rich.console import Console

    from .bench import cases, compare
    from .bench import compare_report as reports
    from .commands.progress import Bar
    from .verify.peers import PEERS

    ops = taken(cases.chosen, op, list(cases.OPS), option="--op")
    lengths = taken(cases.shapes, cases.SWEEPS[quick] if shapes is None else shapes, option="--shapes")
    numbers = taken(cases.threads, threads, option="--threads")
    if device == "cuda" and (reason := compare.no_cuda()):
        raise typer.BadParameter(reason, param_hint="'--device'")
    names, absent = compare.here(device, quick)
    if peers is not None:
        asked = taken(cases.chosen, peers, list(PEERS), option="--peers")
        names, absent = taken(compare.named, asked, device, option="--peers"), {}
    if not names:
        raise typer.BadParameter(f"nothing that is installed runs on {device}", param_hint="'--device'")
    kinds = dtypes.split(",")
    every = taken(cases.product, ops, lengths, axis, kinds, numbers, device, option="--shapes")
    with Bar(len(every)) as bar:
        effort = compare.QUICK if quick else compare.FULL
        found = compare.run(compare.Settings(every, names, effort), absent, bar)
    if plot is not None:
        from .bench.compare_plot import picture

        write_whole(plot, picture(found, plot.suffix.lower().lstrip(".")))
    if html is not None:
        from .bench.compare_page import as_html

        write_whole(html, as_html(found).encode())
    if json is not None and str(json) == "-":
        sys.stdout.write(reports.as_json(found))
        return
    reports.show(found, Console())
    if json is not None:
        write_whole(json, reports.as_json(found).encode())


def league_table(settings: Any, map: str | None, what: str | None, console: Any) -> bool:
    """Write the league table of a map, or of all, and of what is computed, or all: whether all are sound."""
    from .commands.progress import Bar
    from .specs import MAPS
    from .verify import league
    from .verify.peers import WHATS

    maps, whats = [map] if map else list(MAPS), [what] if what else list(WHATS)
    with Bar(len(league.games(maps, whats))) as bar:
        rows = league.play(maps, whats, settings, bar)
    write_whole(LEAGUE, league.page(rows, settings, " ".join(["softgrad", *sys.argv[1:]])).encode())
    sound = sum(row.sound.passed for row in rows)
    tight = sum(row.tight is not None and row.tight.passed for row in rows)
    console.print(
        f"{LEAGUE}: of {len(rows)} implementations {sound} are sound and {tight} tight.", highlight=False
    )
    return sound == len(rows)


if __name__ == "__main__":
    app()
