"""How commands speak: results to stdout, complaints to stderr."""

import sys

import orjson


def complain(text: str) -> None:
    """Print one line to stderr, after the program's name."""
    print("sesamy-mailmojo:", " ".join(text.split()), file=sys.stderr)


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    print(orjson.dumps(value).decode())
