"""``python -m interp_fast`` and the command ``interp-fast``."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
