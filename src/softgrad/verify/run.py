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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..commands import machine
from ..testing import Finding
from .target import Unusable

CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from softgrad.verify.child import main
main()
"""
PRINTED = 4000  # characters of what a target printed that are kept

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
    swapped: bool = False  # the function takes (dy, y)


@dataclass
class Verdict:
    """What was found of one target."""

    target: str
    settings: Settings
    about: str = ""
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


def theirs(text: str) -> str:
    """A text without the lines of tracebacks that lie in what runs the checks."""
    return OUR_FRAMES.sub("", text).strip().encode(errors="replace").decode()


def told(finding: Finding, verdict: Verdict) -> Finding:
    """The finding, its code with what loads the function."""
    if finding.passed:
        return finding
    s = verdict.settings
    options = {"what": s.what, "map": s.map, "swapped": s.swapped, "device": s.device}
    usual = {"what": "vjp", "map": "softmax", "swapped": False, "device": "cpu"}
    given = [repr(verdict.target)] + [f"{k}={v!r}" for k, v in options.items() if v != usual[k]]
    _, made, judged = finding.reproduce.splitlines()
    judged = (
        judged.rpartition("case.verdict(")[0] + f"case.verdict(softgrad.verify.load({', '.join(given)})))"
    )
    code = f"import softgrad.testing, softgrad.verify\n{made}\n{judged}"
    return dataclasses.replace(finding, case=theirs(finding.case), reproduce=code)


def failure(check: str, why: str, case: str) -> Finding:
    return Finding(check, why, "", False, math.nan, math.nan, case, "", "")


def run(
    target: str, settings: Settings, seen: Callable[[float, str], None] = lambda share, text: None
) -> Verdict:
    """Verify a target; `seen` is told of each check the share that is done, and what it was."""
    verdict = Verdict(target, settings)
    job = json.dumps({"text": target, **dataclasses.asdict(settings)})
    # -P: a json.py beside the target is not the module that is meant
    command = [sys.executable, "-P", "-X", "utf8", "-c", CHILD, job, json.dumps(sys.path)]
    planned: list[list[str]] = []
    ended, packages = False, ["numpy"]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # at its end the child ends: this process is there no more
            stdout=subprocess.PIPE,
            stderr=printed,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            for line in process.stdout:
                try:
                    message: dict[str, Any] = json.loads(line)
                    kind = message.pop("kind")
                except (ValueError, AttributeError, KeyError):
                    continue  # the target wrote it
                if kind == "unusable":
                    raise Unusable(message["text"])
                if kind == "broken":
                    why = "a module that cannot be imported has no function to check"
                    verdict.findings.append(failure("import", why, theirs(message["text"])))
                if kind == "begin":
                    verdict.about, verdict.arrays = message["about"], message["arrays"]
                    resolved = {name: message[name] for name in ("device", "max_n")}
                    verdict.settings = dataclasses.replace(settings, **resolved)
                    packages += [name for name in (verdict.arrays, message["package"]) if name]
                    planned = message["planned"]
                    seen(0, " ".join(planned[0]))
                if kind == "finding":
                    finding = told(Finding(**message), verdict)
                    verdict.findings.append(finding)
                    done = len(verdict.findings)
                    seen(done / len(planned), " ".join(planned[done]) if done < len(planned) else "")
                if kind in ("broken", "end"):
                    ended = True
                    break
            else:
                process.wait()  # for how it ends
        finally:
            process.kill()
            process.stdout.close()
            process.stdin.close()
            code = process.wait()
        printed.seek(0)
        verdict.printed = theirs(printed.read().decode(errors="replace"))[-PRINTED:]
    if not ended:
        why = "it took the process with it in which the checks ran"
        check, dtype = planned[len(verdict.findings)] if planned else ("", "")
        where = f" in the check {check}, {dtype}" if planned else ""
        case = f"{how(code, where)}\n{verdict.printed}".rstrip()
        verdict.findings.append(dataclasses.replace(failure("crash", why, case), dtype=dtype))
    verdict.environment = machine.environment(*packages)
    return verdict


def how(code: int, where: str) -> str:
    """How a process ended."""
    if code >= 0:
        return f"The process ended with exit code {code}{where}."
    known = {number.value: number.name for number in signal.Signals}
    return f"The process was ended by {known.get(-code, f'signal {-code}')}{where}."
