"""The command `softgrad`.  Each command imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from .commands import parsers
from .commands.parsers import DTYPES, UsageError, file, one_of, option, whole_from

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


WHATS = "vjp", "forward", "jvp", "double-backward"
LEAGUE = Path("docs/league.md")
LEVELS = "Within the error of plain code (unless given), or of softgrad's own contract."
OF_DTYPES = f"Of {', '.join(DTYPES)}."
JSON = file(parsers.output, "Write the results to this file; - is standard output.")

# What `bench` measures: the article's 32 rows from registers to DRAM, and two large arrays; and with --quick
SWEEP = "32x8,32x64,32x512,32x4096,32x32768,32x262144,4096x4096,200000x8"
QUICK_SWEEP = "32x64,32x512,32x4096"


def version(wanted: bool) -> None:
    if wanted:
        from softgrad import __version__

        print(f"softgrad {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


@app.command()
def reproduce(
    batch: int = option(32, whole_from(1), "INT", "Rows of the array."),
    features: int = option(512, whole_from(2), "INT", "Numbers in a row."),
    dtype: str = option("float64", one_of(*DTYPES), "DTYPE", OF_DTYPES),
    seed: int = option(42, whole_from(0), "INT", "Of the random numbers."),
    json: Path | None = JSON,
    plot: Path | None = file(parsers.plot, "Draw time and memory against n: .png or .svg."),
    quick: bool = typer.Option(False, help="Take few samples, for a look."),
) -> None:
    """Compare three ways to a softmax layer's gradient: are they equal, how long, how much memory?"""
    from .bench import reproduce as article
    from .commands.report import deliver, write_whole

    if (size := batch * features) > (most := article.LARGEST_INPUT):
        reason = f"{batch} × {features} is {size:,} numbers; up to {most:,} are taken"
        raise typer.BadParameter(reason, param_hint="'--batch' × '--features'")
    report = article.run(article.Settings(batch, features, dtype, seed, quick), with_sizes=plot is not None)
    if plot is not None:
        from .bench.plot import experiment

        write_whole(plot, experiment(report, plot.suffix))
    deliver(article.parts(report), article.as_json(report), json)
    raise typer.Exit(int(not report.passed))


@app.command()
def verify(
    target: str | None = typer.Argument(
        None,
        metavar="TARGET",
        help="path/to/file.py:name, package.module:name, or a name of --list; the name is that of a "
        "function, a layer class with forward and backward, an nn.Module, a torch.autograd.Function, or a "
        "function that makes a layer.",
    ),
    args: Any = option(
        None,
        parsers.roles,
        "ROLE,…",
        "What its arguments are, if that is not found out: x (logits), y (the result of the map), dy, dx, v, "
        "t (targets); of a layer those of backward.",
    ),
    axis: str | None = option(
        None,
        one_of("-1", "0", "none"),
        "-1|0|none",
        "How rows lie in its arrays: -1 rows, 0 columns, none: it takes one row at a time.  It is found out, "
        "unless it is right for one of them and wrong for another.",
    ),
    what: str | None = option(
        None, one_of(*WHATS), "WHAT", "vjp (unless given), forward, jvp or double-backward."
    ),
    map: str | None = option(
        None,
        parsers.map_name,
        "MAP",
        "Of softmax (unless given), log_softmax, sparsemax, entmax (α = 1.5) or cross_entropy, of which the "
        "function takes logits, or probabilities, and labels or targets, and gives the logits' gradient.",
    ),
    dtypes: Any = option("float32,float64", parsers.dtypes, "DTYPE,…", OF_DTYPES),
    max_n: int | None = option(None, whole_from(1), "INT", "The longest row that it can take."),
    seconds: int = option(
        60, whole_from(1), "INT", "The time for all checks: sizes grow as far as it lasts."
    ),
    gigabytes: int = option(2, whole_from(1), "INT", "The memory for a call, likewise."),
    device: str | None = option(None, str, "DEVICE", "Where PyTorch's or JAX's arrays are put: cpu, cuda, …"),
    level: str | None = option(None, one_of("sound", "tight"), "sound|tight", LEVELS),
    seed: int = option(0, whole_from(0), "INT", "Of the random numbers."),
    json: Path | None = JSON,
    html: Path | None = file(parsers.page, "Write a page of the results to this file."),
    list_: bool = typer.Option(False, "--list", help="Show the built-in names, and why one is not here."),
    all_: bool = typer.Option(False, "--all", help=f"Verify all of --list at both levels; writes {LEAGUE}."),
) -> None:
    """Is this softmax backward right, how exact is it, and on which input does it break?

    The target takes NumPy, PyTorch or JAX arrays.  How it is called is found out, and is the first line of
    the report: arguments x, y, dy in any order and of any name, a layer's forward and then its backward,
    autograd, rows, columns, or one row at a time.  The exit code is 0 if it is right (also: up to some n),
    1 if it is wrong, 2 if it was not checked: the one line then says what to give.

        softgrad verify layers.py:softmax_backward

        softgrad verify layers.py:Softmax --axis 0
    """
    if (target is not None) + list_ + all_ != 1:
        raise typer.BadParameter("give one TARGET, or --list, or --all", param_hint="'verify'")
    of_a_target = {
        "--args": args,
        "--axis": axis,
        "--device": device,
        "--level": level,
        "--json": json,
        "--html": html,
    }
    for name, value in of_a_target.items():
        if target is None and value is not None:
            raise typer.BadParameter("it goes with a TARGET", param_hint=f"'{name}'")
    parsers.check_apart(json=json, html=html)

    from rich.console import Console

    from .commands.progress import Bar
    from .commands.report import deliver, write_whole
    from .verify import report as reports
    from .verify.run import Settings, run
    from .verify.target import Unusable

    of_what = map or "softmax", what or "vjp", level or "sound"
    settings = Settings(*of_what, tuple(dtypes), max_n, device, seed, args, axis, seconds, gigabytes)
    if list_:
        Console().print(reports.listing())
        return
    if target is None:
        raise typer.Exit(int(not league_table(settings, map, what)))

    def begun(verdict: Any) -> None:
        """Print how it is called, before the checks."""
        if str(json) != "-":
            bar.stop()
            Console().print(reports.first_line(verdict))
            bar.start()

    try:
        with Bar(1) as bar:
            bar.phase(target)
            verdict = run(target, settings, bar.part, begun)
    except Unusable as error:
        raise UsageError(str(error)) from None
    if html is not None:
        write_whole(html, reports.as_html(verdict).encode())
    deliver(reports.parts(verdict, whole=False), reports.as_json(verdict), json)
    raise typer.Exit(int(not verdict.passed))


def league_table(settings: Any, map: str | None, what: str | None) -> bool:
    """Write the league table of one map or all, and one function or all; whether all are sound."""
    from .commands.progress import Bar
    from .commands.report import write_whole
    from .specs import MAPS
    from .verify import league

    if map is not None and map not in MAPS:
        raise typer.BadParameter(f"no built-in name has {map}; give a TARGET", param_hint="'--map'")
    parsers.output(LEAGUE)  # refused before the work
    maps, whats = [map] if map else list(MAPS), [what] if what else list(WHATS)
    with Bar(len(league.games(maps, whats))) as bar:
        rows = league.play(maps, whats, settings, bar)
    write_whole(LEAGUE, league.page(rows, settings, " ".join(["softgrad", *sys.argv[1:]])).encode())
    sound = sum(row.sound.passed for row in rows)
    tight = sum(row.tight is not None and row.tight.passed for row in rows)
    print(f"{LEAGUE}: of {len(rows)} implementations {sound} are sound and {tight} tight.")
    return sound == len(rows)


@app.command()
def bench(
    op: Any = option(
        "softmax,softmax_vjp",
        parsers.ops,
        "OP,…",
        "Functions of softgrad: softmax, softmax_vjp, entmax_jvp, …",
    ),
    shapes: Any = option(None, parsers.shapes, "SHAPE,…", "Such as 32x512,8x16x64; several n unless given."),
    axis: int = typer.Option(-1, metavar="INT", help="Along which the functions go."),
    dtypes: Any = option("float32", parsers.dtypes, "DTYPE,…", OF_DTYPES),
    threads: Any = option("1", parsers.threads, "INT,…", "How many each library may use."),
    peers: Any = option(None, parsers.peers, "NAME,…", "Of `softgrad verify --list`; all here unless given."),
    device: str = option("cpu", one_of("cpu", "cuda"), "cpu|cuda", "Where the arrays are."),
    json: Path | None = JSON,
    plot: Path | None = file(parsers.plot, "Draw speed, memory and error against n: .png or .svg."),
    html: Path | None = file(parsers.plotted_page, "Write a page of tables and plots to this file."),
    quick: bool = typer.Option(False, help="Fewer sizes and samples, for a look."),
) -> None:
    """Implementations side by side: time, memory, error, and how near to the limit of the machine."""
    parsers.check_apart(json=json, plot=plot, html=html)

    from rich.console import Console

    from .bench import cases, compare, report
    from .commands.progress import Bar
    from .commands.report import as_page, deliver, write_whole

    if device == "cuda" and (reason := compare.no_cuda()):
        raise typer.BadParameter(reason, param_hint="'--device'")
    if peers is None:
        names, absent = compare.runnable(device, quick)
    else:
        names, absent = argument("--peers", compare.select, peers, device), {}
    if not names:
        raise typer.BadParameter(f"nothing that is installed runs on {device}", param_hint="'--device'")
    lengths = shapes or parsers.shapes(QUICK_SWEEP if quick else SWEEP)
    every = argument("--shapes", cases.product, op, lengths, [axis], dtypes, threads, [device])
    with Bar(len(every)) as bar:
        comparison = compare.run(every, names, absent, quick, bar)
    if plot is not None:
        from .bench.plot import picture

        write_whole(plot, picture(comparison, plot.suffix))
    if html is not None:
        from .bench.plot import figures

        parts = report.parts(comparison, wide=True, figures=figures(comparison))
        write_whole(html, as_page("softgrad bench", parts).encode())
    deliver(report.parts(comparison, Console().width >= report.WIDE), report.as_json(comparison), json)


def argument(name: str, make: Callable[..., Any], *given: Any) -> Any:
    """The result of `make`; its ValueError becomes that of the option of this name."""
    try:
        return make(*given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{name}'") from None


if __name__ == "__main__":
    app()
