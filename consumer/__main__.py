"""`python -m consumer` is the command `sesamy-mailmojo`."""

import sys

from consumer.cli import main

if __name__ == "__main__":
    sys.exit(main())
