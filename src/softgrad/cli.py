"""The command `softgrad`.  Each command imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .commands import parsers
from .commands.parsers import DTYPES, UsageError, one_in, one_of, several, whole_from

STOPPED = 130


class OneLine(typer.core.TyperGroup):
    """Commands whose errors take one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # signs that the terminal's encoding lacks
        try:
            code = super().main(*args, **options) or 0
            if code == STOPPED:
                raise KeyboardInterrupt
            sys.stdout.flush()
            sys.exit(code)
        except UsageError as error:
            if message := " ".join(error.format_message().split()):  # there is none where help was printed
                print(f"softgrad: {message}", file=sys.stderr)
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


def option(parse: Callable[..., Any], metavar: str, help: str, *names: str) -> Any:
    return typer.Option(*names, parser=parse, metavar=metavar, help=help)


Seed = Annotated[int, option(whole_from(0), "INT", "Of the random numbers.")]
Dtypes = Annotated[Any, option(several(one_of(*DTYPES)), "DTYPE,…", f"Of {', '.join(DTYPES)}.")]
Json = Annotated[
    Path | None, option(parsers.output, "PATH", "Write the results to this file; - is standard output.")
]
WHATS = "vjp", "forward", "jvp", "double-backward"


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


# --- reproduce ---------------------------------------------------------------------------------------


@app.command()
def reproduce(
    batch: Annotated[int, option(whole_from(1), "INT", "Rows of the array.")] = 32,
    features: Annotated[int, option(whole_from(2), "INT", "Numbers in a row.")] = 512,
    dtype: Annotated[
        str, option(one_of(*DTYPES), "DTYPE", f"Of all arrays: {', '.join(DTYPES)}.")
    ] = "float64",
    seed: Seed = 42,
    json: Json = None,
    plot: Annotated[
        Path | None,
        option(parsers.plot, "PATH", "Draw time and memory against n: .png or .svg."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Take few samples, for a look.")] = False,
) -> None:
    """Compare three ways to a softmax layer's gradient: are they equal, how long, how much memory?"""
    from .bench import reproduce as article
    from .commands.report import deliver, write_whole

    size, most = batch * features, article.LARGEST_INPUT
    if size > most:
        raise typer.BadParameter(
            f"{batch} × {features} is {size:,} numbers; up to {most:,} are taken",
            param_hint="'--batch' × '--features'",
        )
    report = article.run(article.Settings(batch, features, dtype, seed, quick), with_sizes=plot is not None)
    if plot is not None:
        from .bench.plot import experiment

        write_whole(plot, experiment(report, plot.suffix))
    deliver(article.parts(report), article.as_json(report), json)
    if not report.passed:
        raise typer.Exit(1)


# --- verify ------------------------------------------------------------------------------------------

LEAGUE = Path("docs/league.md")


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
        option(one_of("y,dy", "dy,y"), "y,dy|dy,y", "In which order it takes them; y first unless given."),
    ] = None,
    what: Annotated[
        str | None,
        option(
            one_of(*WHATS), "WHAT", "What it computes: vjp (unless given), forward, jvp or double-backward."
        ),
    ] = None,
    map: Annotated[
        str | None,
        option(
            one_in("specs", "MAPS"),
            "MAP",
            "Of softmax (unless given), log_softmax, sparsemax or entmax (α = 1.5).",
        ),
    ] = None,
    dtypes: Dtypes = "float32,float64",
    max_n: Annotated[int | None, option(whole_from(1), "INT", "The longest row that it can take.")] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Where PyTorch's or JAX's arrays are put: cpu, cuda, …"),
    ] = None,
    level: Annotated[
        str | None,
        option(
            one_of("sound", "tight"),
            "sound|tight",
            "Within the error of plain code (unless given), or of softgrad's own contract.",
        ),
    ] = None,
    seed: Seed = 0,
    json: Json = None,
    html: Annotated[
        Path | None, option(parsers.page, "PATH", "Write a page of the results to this file.")
    ] = None,
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
    for name, value in only_of_one.items():
        if target is None and value is not None:
            raise typer.BadParameter("it goes with a TARGET", param_hint=f"'{name}'")
    if what == "forward" and args is not None:
        raise typer.BadParameter("a forward takes x alone", param_hint="'--args'")
    parsers.check_apart(json=json, html=html)

    from rich.console import Console

    from .commands.progress import Bar
    from .commands.report import deliver, write_whole
    from .verify import report as reports
    from .verify.run import Settings, run
    from .verify.target import Unusable

    settings = Settings(
        map=map or "softmax",
        what=what or "vjp",
        level=level or "sound",
        dtypes=tuple(dtypes),
        max_n=max_n,
        device=device,
        seed=seed,
        swapped=args == "dy,y",
    )
    if list_:
        Console().print(reports.listing())
        return
    if target is None:
        if not league_table(settings, map, what):
            raise typer.Exit(1)
        return
    try:
        with Bar(1) as bar:
            bar.phase(target)
            verdict = run(target, settings, bar.part)
    except Unusable as error:
        raise UsageError(str(error)) from None
    if html is not None:
        write_whole(html, reports.as_html(verdict).encode())
    deliver(reports.parts(verdict, whole=False), reports.as_json(verdict), json)
    if not verdict.passed:
        raise typer.Exit(1)


def league_table(settings: Any, map: str | None, what: str | None) -> bool:
    """Write the league table of one map or all, and one function or all; whether all are sound."""
    from .commands.progress import Bar
    from .commands.report import write_whole
    from .specs import MAPS
    from .verify import league

    parsers.output(LEAGUE)  # refused before the work
    maps, whats = [map] if map else list(MAPS), [what] if what else list(WHATS)
    with Bar(len(league.games(maps, whats))) as bar:
        rows = league.play(maps, whats, settings, bar)
    write_whole(LEAGUE, league.page(rows, settings, " ".join(["softgrad", *sys.argv[1:]])).encode())
    sound = sum(row.sound.passed for row in rows)
    tight = sum(row.tight is not None and row.tight.passed for row in rows)
    print(f"{LEAGUE}: of {len(rows)} implementations {sound} are sound and {tight} tight.")
    return sound == len(rows)


# --- bench -------------------------------------------------------------------------------------------

# The article's 32 rows from registers to DRAM, and two large arrays; and with --quick
SWEEP = "32x8,32x64,32x512,32x4096,32x32768,32x262144,4096x4096,200000x8"
QUICK_SWEEP = "32x64,32x512,32x4096"


@app.command()
def bench(
    op: Annotated[
        Any,
        option(
            several(one_in("bench.cases", "OPS")),
            "OP,…",
            "Functions of softgrad: softmax, softmax_vjp, entmax_jvp, …",
        ),
    ] = "softmax,softmax_vjp",
    shapes: Annotated[
        Any, option(several(parsers.shape), "SHAPE,…", "Such as 32x512,8x16x64; a sweep over n unless given.")
    ] = None,
    axis: Annotated[int, typer.Option(metavar="INT", help="Along which the functions go.")] = -1,
    dtypes: Dtypes = "float32",
    threads: Annotated[
        Any, option(several(parsers.threads), "INT,…", "How many each library may use.")
    ] = "1",
    peers: Annotated[
        Any,
        option(
            several(one_in("verify.peers", "PEERS")),
            "NAME,…",
            "Of `softgrad verify --list`; all that are here unless given.",
        ),
    ] = None,
    device: Annotated[str, option(one_of("cpu", "cuda"), "cpu|cuda", "Where the arrays are.")] = "cpu",
    json: Json = None,
    plot: Annotated[
        Path | None,
        option(parsers.plot, "PATH", "Draw speed, memory and error against n: .png or .svg."),
    ] = None,
    html: Annotated[
        Path | None, option(parsers.plotted_page, "PATH", "Write a page of tables and plots to this file.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer sizes and samples, for a look.")] = False,
) -> None:
    """Implementations side by side: time, memory, error, and how near to the limit of the machine."""
    parsers.check_apart(json=json, plot=plot, html=html)

    from .bench import cases, compare, report
    from .commands.progress import Bar
    from .commands.report import as_page, deliver, write_whole

    if device == "cuda" and (reason := compare.no_cuda()):
        raise typer.BadParameter(reason, param_hint="'--device'")
    if peers is None:
        names, absent = compare.runnable(device, quick)
    else:
        names, absent = argument(compare.select, peers, device, name="--peers"), {}
    if not names:
        raise typer.BadParameter(f"nothing that is installed runs on {device}", param_hint="'--device'")
    lengths = shapes or several(parsers.shape)(QUICK_SWEEP if quick else SWEEP)
    every = argument(cases.product, op, lengths, axis, dtypes, threads, device, name="--shapes")
    with Bar(len(every)) as bar:
        comparison = compare.run(every, names, absent, quick, bar)
    if plot is not None:
        from .bench.plot import picture

        write_whole(plot, picture(comparison, plot.suffix))
    if html is not None:
        from .bench.plot import figures

        write_whole(html, as_page("softgrad bench", report.parts(comparison, figures(comparison))).encode())
    deliver(report.parts(comparison), report.as_json(comparison), json)


def argument(make: Callable[..., Any], *given: Any, name: str) -> Any:
    """The result of `make`; its ValueError becomes that of the option of this name."""
    try:
        return make(*given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{name}'") from None


if __name__ == "__main__":
    app()
