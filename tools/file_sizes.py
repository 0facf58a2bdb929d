"""Ask of each source file over 400 or under 40 lines why it is there; the answers are below.

python tools/file_sizes.py        (make check)
"""

import subprocess
import sys
from pathlib import Path

FEWEST, MOST = 40, 400
REASONS = {
    "arrays.py": "what dispatch asks of an array library, a paragraph for each function",
    "checks.py": "every error text, in one place",
    "commands/progress.py": "three commands draw it, and nothing else",
    "commands/units.py": "the only words for times and bytes: commands, benchmarks and README use them",
    "functional/segments.py": "the public functions of segments; half of it is docstrings",
    "jacobian.py": "one class; half of it is docstrings",
    "layers.py": "every layer: a few lines each; most of it is docstrings",
    "kernels.py": "the old name of softgrad.gpu, for one release",
    "torch/backend.py": "the CPU, CUDA and the formulas behind one function for each operation",
    "torch/functions.py": "the public functions; half of it is docstrings",
    "torch/segments.py": "four functions and their derivatives, by kernels and by formulas",
}


def main() -> None:
    root = Path(__file__).parent.parent / "src" / "softgrad"
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True)
    sizes = {name: len((root / name).read_text().splitlines()) for name in files.stdout.split()}
    asked = {
        name: lines
        for name, lines in sizes.items()
        if not FEWEST <= lines <= MOST and Path(name).name not in ("__init__.py", "__main__.py")
    }
    wrong = [f"{name} has {asked[name]} lines: why?" for name in asked if name not in REASONS]
    wrong += [f"{name} needs no reason any more" for name in REASONS if name not in asked]
    if wrong:
        sys.exit("\n".join([*wrong, f"(from {FEWEST} to {MOST} nothing is asked: {Path(__file__).name})"]))


if __name__ == "__main__":
    main()
