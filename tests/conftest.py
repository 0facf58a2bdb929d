"""The tests' own modules (oracle, cases, checks, mutants) are found by name."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
