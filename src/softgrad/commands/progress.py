"""A bar on standard error that says what is being done, and how much is left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)


class Bar:
    """A job of so many phases, which may tell what share of themselves is done.

    Nothing is written where standard error is no terminal.
    """

    def __init__(self, phases: int) -> None:
        console = Console(stderr=True)
        self.progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", total=phases)
        self.done = -1

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def phase(self, text: str) -> None:
        """The next phase begins."""
        self.done += 1
        self.progress.update(self.task, completed=self.done, description=text)

    def part(self, share: float, text: str | None = None) -> None:
        """This share of the phase, from 0 to 1, is done; now that of `text`."""
        self.progress.update(self.task, completed=self.done + share, description=text)
