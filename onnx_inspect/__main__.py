"""`python -m onnx_inspect` and the console script."""

from __future__ import annotations

import sys
from contextlib import suppress


def main() -> None:
    """Run the command line."""
    try:
        from .cli import cli

        cli(prog_name="onnx-inspect")
    except KeyboardInterrupt:  # while importing, or at the very end
        with suppress(AttributeError, OSError):
            sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
