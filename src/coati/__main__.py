"""`python -m coati`: the same as the console script."""

import sys

from coati.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
