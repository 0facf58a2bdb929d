"""Run the checks on a target in a process of its own, and keep what they find."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..commands import machine
from ..testing import Finding
from .target import Unusable

CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from softgrad.verify.child import main
main()
"""
HANGS = re.compile(r"^Timeout \(\d.*\)!$", re.MULTILINE)
PRINTED = 4000  # characters of a target's output that are kept

PLACES = re.escape(f"{Path(__file__).parents[1]}{os.sep}") + "(?:verify|testing)" + re.escape(os.sep)
OUR_FRAMES = re.compile(rf'  File "(?:{PLACES}|<frozen|<string>)[^\n]*\n?(?:    [^\n]*\n)*')


@dataclass(frozen=True)
class Settings:
    """The options of `softgrad verify`."""

    map: str = "softmax"
    what: str = "vjp"
    level: str = "sound"
    dtypes: tuple[str, ...] = ("float32", "float64")
    max_n: int | None = None
    device: str | None = None  # None is the one that the target is for
    seed: int = 0
    args: tuple[str, ...] | None = None  # the roles of its arguments; None: found out
    axis: str | None = None  # of `conventions.OF_AXIS`; None: found out
    seconds: float = 60.0  # for all checks
    gigabytes: float = 2.0


@dataclass
class Verdict:
    """What was found of one target."""

    target: str
    settings: Settings
    about: str = ""
    called: str = ""  # how, in words
    note: str = ""
    arrays: str = "numpy"
    environment: dict[str, str | int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    printed: str = ""  # by the target

    @property
    def failures(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.passed]

    @property
    def passed(self) -> bool:
        return bool(self.findings) and not self.failures

    @property
    def limited(self) -> str:
        """Why, and up to which n, not all sizes were tried; "" if they were."""
        stopped = [f for f in self.findings if f.stopped]
        if not stopped:
            return ""
        most = max((f.longest for f in self.findings if f.check == "contract"), default=0)
        reason = max(stopped, key=lambda f: f.check == "contract").stopped
        return f"checked up to n = {most:,}: {reason}; --max-n, --seconds and --gigabytes set the limits"


def without_our_frames(text: str) -> str:
    """A text without the lines of tracebacks that lie in the code of the checks."""
    return OUR_FRAMES.sub("", text).strip().encode(errors="replace").decode()


def failure(check: str, why: str, case: str, dtype: str = "") -> Finding:
    return Finding(check, why, dtype, False, math.nan, math.nan, case)


def run(
    target: str,
    settings: Settings,
    seen: Callable[[float, str], None] = lambda share, text: None,
    begun: Callable[[Verdict], None] = lambda verdict: None,
) -> Verdict:
    """Verify a target.

    `seen` is called with the share that is done, and the next check; `begun` once it is known how the target
    is called.
    """
    verdict = Verdict(target, settings)
    planned: list[list[str]] = []
    kind, packages = "", ["numpy"]
    with tempfile.TemporaryFile() as printed:
        with start(target, settings, printed) as process:
            try:
                for kind, content in messages(process.stdout):
                    if kind == "unusable":
                        raise Unusable(content["text"])
                    if kind == "end":
                        break
                    if kind == "begin":
                        planned = content["planned"]
                        for name in ("about", "arrays", "called", "note"):
                            setattr(verdict, name, content[name])
                        packages += [name for name in (verdict.arrays, content["package"]) if name]
                        resolved = {name: content[name] for name in ("device", "max_n")}
                        verdict.settings = dataclasses.replace(settings, **resolved)
                        begun(verdict)
                    if kind == "finding":
                        content["case"] = without_our_frames(content["case"])
                        verdict.findings.append(Finding(**content))
                    if planned:
                        done = len(verdict.findings)
                        seen(done / len(planned), " ".join([*planned, [""]][done]))
                else:
                    process.wait()  # for how it ends
            finally:
                process.kill()
        printed.seek(0)
        text = printed.read().decode(errors="replace")
        verdict.printed = without_our_frames(text)[-PRINTED:]
    if kind != "end":
        check, dtype = [*planned, ["", ""]][len(verdict.findings)] if planned else ("", "")
        where = f" in the check {check}, {dtype}" if check else ""
        timed_out = HANGS.search(text)
        if timed_out and not verdict.failures:
            raise Unusable(
                f"{target} did not end within {settings.seconds:g} s{where}: --seconds gives it more; "
                f"{place_in(text)}"
            )
        if not timed_out and not verdict.findings:
            raise Unusable(f"{target}: {how_it_ended(process.returncode, where)[:-1]}; {place_in(text)}")
        if not timed_out:
            case = f"{how_it_ended(process.returncode, where)}\n{verdict.printed}".rstrip()
            why = "it took the process with it in which the checks ran"
            verdict.findings.append(failure("crash", why, case, dtype))
    verdict.environment = machine.environment(*packages)
    return verdict


def place_in(printed: str) -> str:
    """The innermost line of the target in the tracebacks that a process ended with."""
    libraries = (f"{Path(os.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")
    for file, line, name in re.findall(r'File "([^"]*)", line (\d+) in (\S+)', printed):
        if not file.startswith((*libraries, "<")) and "site-packages" not in file:
            return f"it was at line {line} of {file}, in {name}"
    lines = [line for line in printed.splitlines() if line.strip()]
    return f"it printed: {lines[-1]}" if lines else "it printed nothing"


def start(target: str, settings: Settings, printed: IO[bytes]) -> subprocess.Popen[str]:
    """The process that runs the checks; it ends with this one, at the end of its standard input."""
    job = json.dumps({"text": target, **dataclasses.asdict(settings)})
    return subprocess.Popen(
        # -P: a json.py beside the target is not the module that is meant
        [sys.executable, "-P", "-X", "utf8", "-c", CHILD, job, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
        encoding="utf-8",
        errors="replace",
    )


def messages(stream: IO[str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kind and content of each message; other lines the target wrote."""
    for line in stream or ():
        try:
            message = json.loads(line)
            yield message.pop("kind"), message
        except (ValueError, AttributeError, KeyError):
            continue


def how_it_ended(code: int, where: str) -> str:
    if code >= 0:
        return f"The process ended with exit code {code}{where}."
    names = {number.value: number.name for number in signal.Signals}
    return f"The process was ended by {names.get(-code, f'signal {-code}')}{where}."
