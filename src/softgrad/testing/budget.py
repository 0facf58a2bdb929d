"""What a function may use: its time and memory are measured while sizes grow; what would not fit is left out.

A prediction starts from the next smaller length that was measured, and takes the cost to grow with n², as
that of a Jacobian does.  A function whose cost grows with n is never near it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import Array

Function = Callable[..., Any]
ROWS = 12
SLOW = 0.01  # seconds from which a first call is made twice: it may have compiled
PROC = Path("/proc/self")


class TooLarge(BaseException):
    """A call of the function found no memory.  No Exception, which would be a failed check."""


@dataclass
class Cost:
    """Of a call with `ROWS` rows of n."""

    n: int
    seconds: float
    bytes: float


@dataclass
class Budget:
    """Time and memory for all checks of a function."""

    seconds: float = 60.0
    bytes: float = 2e9
    start: float = field(default_factory=time.perf_counter)
    costs: list[Cost] = field(default_factory=list)
    stopped: str = ""  # why a length was left out, the last time

    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.start)

    def grow(self, prepare: Callable[[int], Callable[[], Any]], longest: int) -> None:
        """Measure calls with n = 16, 32, …, as far as the next one fits."""
        n = 16
        while n <= longest and self.fits(ROWS, n, self.left() / 30):
            call = prepare(n)
            try:
                first = measured(call, n)
                again = measured(call, n) if SLOW < first.seconds < 1 else first
            except TooLarge:
                self.costs.append(Cost(n, 0.0, math.inf))
                return
            except Exception:  # the checks will say so
                return
            self.costs.append(Cost(n, min(first.seconds, again.seconds), min(first.bytes, again.bytes)))
            n *= 2

    def predicted(self, rows: int, n: int) -> Cost:
        if not self.costs:
            return Cost(n, 0.0, 0.0)
        near = max((c for c in self.costs if c.n <= n), key=lambda c: c.n, default=self.costs[0])
        factor = max(1.0, rows / ROWS) * max(1.0, n / near.n) ** 2
        return Cost(n, near.seconds * factor, near.bytes * factor)

    def fits(self, rows: int, n: int, seconds: float) -> bool:
        cost = self.predicted(rows, n)
        if seconds <= 0:
            self.stopped = f"the {self.seconds:g} s for all checks are used up"
        elif cost.bytes > self.bytes:
            size = f"to {cost.bytes / 1e9:.2g} GB" if math.isfinite(cost.bytes) else "and there is none"
            self.stopped = f"memory grows with {self.power('bytes')}, {size} at {rows}×{n:,}"
        elif cost.seconds > seconds:
            power = self.power("seconds")
            self.stopped = f"time grows with {power}, to {cost.seconds:.2g} s a call at {rows}×{n:,}"
        else:
            return True
        return False

    def within(self, fn: Function) -> Function:
        """The function; where it finds no memory, that ends the check and is no failure."""

        def called(*args: Array, **options: Any) -> Any:
            try:
                with memory_is_no_failure():
                    return fn(*args, **options)
            except TooLarge:
                self.stopped = "it finds no memory"
                raise

        return called

    def power(self, what: str) -> str:
        """How the cost grew over the last lengths."""
        known = [c for c in self.costs if 0 < getattr(c, what) < math.inf]
        if len(known) < 2:
            return "n"
        ratio = getattr(known[-1], what) / getattr(known[-2], what)
        power = round(math.log(max(ratio, 1.0)) / math.log(known[-1].n / known[-2].n))
        return {0: "n", 1: "n", 2: "n²", 3: "n³"}.get(power, f"n^{power}")


def measured(call: Callable[[], Any], n: int) -> Cost:
    base = peak_from_here()
    begin = time.perf_counter()
    with memory_is_no_failure():
        call()
    return Cost(n, time.perf_counter() - begin, max(0.0, resident("VmHWM") - base))


@contextlib.contextmanager
def memory_is_no_failure() -> Iterator[None]:
    """Where a function finds no memory that is no failure of it."""
    try:
        yield
    except MemoryError:
        raise TooLarge from None
    except RuntimeError as error:  # PyTorch's and XLA's
        if any(word in str(error).lower() for word in ("allocate memory", "out of memory", "bad_alloc")):
            raise TooLarge from None
        raise


def peak_from_here() -> float:
    """Forget the most memory that was used so far; what is used now (0 where Linux's /proc is not)."""
    with contextlib.suppress(OSError):
        (PROC / "clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> float:
    with contextlib.suppress(OSError):
        for line in (PROC / "status").read_text().splitlines():
            if line.startswith(name):
                return 1024.0 * int(line.split()[1])
    return 0.0


def limit_memory(more: float) -> None:
    """Let this process use so many bytes more: what asks for others gets an error."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = resident("VmData")
        if used:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (int(used + more), hard))
