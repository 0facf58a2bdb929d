"""Print the coefficients in `softgrad/cpu/exp.py`: `python tools/exp_polynomial.py`.

exp(r) = 1 + r + r²·q(r) on |r| ≤ ln2/2, q the polynomial that makes the largest error of exp smallest
(Remez' exchange, in 60 digits); its coefficients are then rounded to the type, the low ones first, and
the ones that are left are fitted again, so that the rounding of one is made good by the others.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60
EDGE = mp.log(2) / 2 * mp.mpf("1.0005")


def fit(powers, known):
    """Coefficients of r^2+p for p in powers: least largest error of exp, `known` ones as they are."""

    def rest(r):
        return mp.exp(r) - 1 - r - sum(c * r ** (2 + p) for p, c in known.items())

    points = len(powers) + 1
    nodes = [EDGE * mp.cos(mp.pi * (k + mp.mpf("0.5")) / points) for k in range(points)]
    for _ in range(30):
        rows = [[r ** (2 + p) for p in powers] + [(-1) ** i * mp.exp(r)] for i, r in enumerate(nodes)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([rest(r) for r in nodes]))
        coefficients = list(solution[: len(powers)])

        def error(r, coefficients=coefficients):
            return (
                sum(c * r ** (2 + p) for p, c in zip(powers, coefficients, strict=True)) - rest(r)
            ) / mp.exp(r)

        grid = [-EDGE + 2 * EDGE * k / 2000 for k in range(2001)]
        values = [error(r) for r in grid]
        peaks, start = [], 0
        for k in range(1, len(grid) + 1):  # the largest |error| of each run of one sign
            if k == len(grid) or mp.sign(values[k]) != mp.sign(values[start]):
                peaks.append(max(range(start, k), key=lambda j: abs(values[j])))
                start = k
        peaks = sorted(peaks, key=lambda j: -abs(values[j]))[:points]
        if len(peaks) < points:
            break
        nodes = [grid[j] for j in sorted(peaks, reverse=True)]
    return dict(zip(powers, coefficients, strict=True)), max(abs(v) for v in values)


for dtype, degree in ((np.float32, 6), (np.float64, 12)):
    known, left = {}, list(range(degree - 1))
    while left:
        coefficients, error = fit(left, known)
        p = left.pop(0)
        known[p] = mp.mpf(float(dtype(float(coefficients[p]))))
    print(dtype.__name__, "error before rounding of the last:", mp.nstr(error, 5))
    for p, c in known.items():
        print(f"    r^{p + 2}: {float(c)!r}")
    hi = dtype(float(mp.log(2)))
    print("    ln 2:", repr(float(hi)), repr(float(dtype(float(mp.log(2) - mp.mpf(float(hi)))))))
