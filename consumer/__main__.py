"""The program's entry point: `sesamy-mailmojo`, or `python -m consumer`."""

import sys

from consumer import signals


def main() -> int:
    """Run the command given on the command line, and return the exit code. Signals are heard before slow imports."""
    signals.install()
    from consumer import cli, stdio  # noqa: PLC0415 - slow

    stdio.protect()
    try:
        return cli.main()
    finally:
        signals.ignore()


if __name__ == "__main__":
    sys.exit(main())
