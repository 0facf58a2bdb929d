"""The machine of a measurement, and the versions of the libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

from .. import __version__


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
