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
    return OUR_FRAMES.sub("", text).strip()


def told(finding: Finding, verdict: Verdict) -> Finding:
    """The finding, its code preceded by what loads the function that the code calls `fn`."""
    if finding.passed:
        return finding
    s = verdict.settings
    options = {"what": s.what, "map": s.map, "swapped": s.swapped, "device": s.device}
    usual = {"what": "vjp", "map": "softmax", "swapped": False, "device": "cpu"}
    given = [repr(verdict.target)] + [f"{k}={v!r}" for k, v in options.items() if v != usual[k]]
    code = f"from softgrad.verify import load\nfn = load({', '.join(given)})\n{finding.reproduce}"
    return dataclasses.replace(finding, case=theirs(finding.case), reproduce=code)


def failure(check: str, why: str, case: str) -> Finding:
    return Finding(check, why, "", False, math.nan, math.nan, case, "", "")


def run(
    target: str, settings: Settings, seen: Callable[[float, str], None] = lambda share, text: None
) -> Verdict:
    """Verify a target; `seen` is told of each check the share that is done, and what it was."""
    verdict = Verdict(target, settings)
    job = json.dumps({"text": target, **dataclasses.asdict(settings)})
    command = [sys.executable, "-X", "utf8", "-c", CHILD, job, json.dumps(sys.path)]
    count, ended, packages = 1, False, ["numpy"]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=printed, encoding="utf-8"
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                message: dict[str, Any] = json.loads(line)
                kind = message.pop("kind")
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
                    count = message["count"]
                if kind == "finding":
                    finding = told(Finding(**message), verdict)
                    verdict.findings.append(finding)
                    seen(len(verdict.findings) / count, f"{finding.check} {finding.dtype}")
                if kind in ("broken", "end"):
                    ended = True
                    break
            else:
                process.wait()  # for how it ends
        finally:
            process.kill()
            process.stdout.close()
            code = process.wait()
        printed.seek(0)
        verdict.printed = theirs(printed.read().decode(errors="replace"))[-PRINTED:]
    if not ended:
        why = "it took the process with it in which the checks ran"
        verdict.findings.append(failure("crash", why, f"{how(code)}\n{verdict.printed}".rstrip()))
    verdict.environment = machine.environment(*packages)
    return verdict


def how(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"The process ended with exit code {code}."
    return f"The process was ended by {signal.Signals(-code).name}."
