"""`python -m cdnctl` is `cdnctl`."""

import sys

from cdnctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
