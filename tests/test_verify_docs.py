"""The public patterns of docs/verify.md: each command gives the output that stands there.

python tests/test_verify_docs.py        writes the outputs anew
"""

import contextlib
import pathlib
import re
import tempfile

import pytest
from typer.testing import CliRunner

from softgrad import cli

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "verify.md"
PATTERN = re.compile(
    r"```python\n# (\S+\.py)\n(.*?)```\n\n```console\n\$ softgrad (.*?)\n(.*?)```", re.DOTALL
)


def output_of(file, code, command):
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        pathlib.Path(file).write_text(code)
        result = CliRunner(env={"COLUMNS": "110"}).invoke(cli.app, command.split())
        lines = [line.rstrip() for line in result.output.replace(f"{folder}/", "").strip().splitlines()]
    return "\n".join([*lines, f"(exit code {result.exit_code})", ""])


def without_digits(text):
    """Other processors have other last digits, and so another worst row, and wider columns."""
    text = re.sub(r"^logits .*, gradient .*?;", "", text, flags=re.MULTILINE)
    return re.sub(r"[━─ ]+", " ", re.sub(r"\d[\d.,]*(e[+-]?\d+)?|∞", "#", text))


@pytest.mark.parametrize(("file", "code", "command", "output"), PATTERN.findall(PAGE.read_text()))
def test_a_pattern(file, code, command, output):
    assert without_digits(output_of(file, code, command)) == without_digits(output)


def test_there_are_ten():
    assert len(PATTERN.findall(PAGE.read_text())) == 10


def written(match):
    file, code, command, _ = match.groups()
    head = match[0][: match[0].rindex("\n$ softgrad")]
    return f"{head}\n$ softgrad {command}\n{output_of(file, code, command)}```"


if __name__ == "__main__":
    PAGE.write_text(PATTERN.sub(written, PAGE.read_text()))
