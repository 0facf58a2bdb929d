"""A progress bar on standard error."""

from __future__ import annotations

from rich import progress
from rich.console import Console


class Bar(progress.Progress):
    """A job of so many phases.  Nothing is written where standard error is no terminal."""

    def __init__(self, phases: int) -> None:
        console = Console(stderr=True)
        super().__init__(
            progress.SpinnerColumn(),
            progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.job = self.add_task("", total=phases)
        self.done = -1

    def phase(self, text: str) -> None:
        """The next phase begins."""
        self.done += 1
        self.update(self.job, completed=self.done, description=text)

    def part(self, share: float, text: str | None = None) -> None:
        """This share of the phase, from 0 to 1, is done; now that of `text`."""
        self.update(self.job, completed=self.done + share, description=text)
