"""`python -m onnx_inspect` and the console script."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from .cli import cli

    cli(prog_name="onnx-inspect")


if __name__ == "__main__":
    main()
