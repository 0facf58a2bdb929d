"""Seconds and bytes as people write them."""

from __future__ import annotations

Units = tuple[tuple[str, float], ...]

SECONDS: Units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
BYTES: Units = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def unit_of(value: float, units: Units) -> tuple[str, float]:
    """The largest unit that is not larger than the value, and its size."""
    return next((unit for unit in units if value >= unit[1] * 0.999), units[-1])


def digits(value: float) -> str:
    """Three of them, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def with_unit(value: float, units: Units) -> str:
    name, size = unit_of(value, units)
    return f"{digits(value / size)} {name}"
