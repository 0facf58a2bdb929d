"""Python processes of their own: for what would take the tests down with it, or leave its mark on them."""

import os
import pathlib
import subprocess
import sys
import textwrap

import softgrad

SOURCE = str(pathlib.Path(softgrad.__file__).parents[1])


def run(code, *arguments, timeout=120, **environment):
    """Run `code`, which must end well within `timeout` seconds; what it printed.

    A deadlock ends as TimeoutExpired, an abort as a returncode below 0.
    """
    paths = [SOURCE, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"returncode {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
