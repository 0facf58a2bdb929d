"""What figures depend on: the machine, and what runs on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

from .. import __version__


def processor() -> str:
    """The processor's name as it calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment(*packages: str) -> dict[str, str | int]:
    """What the figures depend on: the machine, and what runs on it, of `packages` those installed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int] = {
        "cpu": processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "softgrad": __version__,
    }
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
