"""Python processes of their own: for what would take the tests down with it, or leave its mark on them."""

import os
import pathlib
import signal
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
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # with the processes it forked: it is one of those that waits
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == 0, f"returncode {process.returncode}\n{printed}\n{errors}"
    return printed
