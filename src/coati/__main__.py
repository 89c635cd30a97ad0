"""`python -m coati`: the same as the console script."""

import sys

from coati.cli.main import process

if __name__ == "__main__":
    sys.exit(process())
