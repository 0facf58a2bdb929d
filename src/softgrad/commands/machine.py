"""The machine of a measurement, and the versions of the libraries."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

from .. import __version__


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: *(.*)", info.read_text(), re.MULTILINE) if info.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def environment(*packages: str) -> dict[str, str | int]:
    """The machine, the date and the versions: Python's, softgrad's, and those of the installed `packages`."""
    versions: dict[str, str | int] = {
        "cpu": processor_name(),
        "cores": processors(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "softgrad": __version__,
    }
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
