"""`python -m softgrad`, and the console script `softgrad`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the commands, or say that what they need is not installed."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError:
        print("softgrad's commands need typer and rich: pip install 'softgrad[cli]'", file=sys.stderr)
        sys.exit(2)
    from .cli import app

    app()


if __name__ == "__main__":
    main()
