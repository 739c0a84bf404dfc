"""`dejaview`, broken or crashed as `tests.support.sabotage` is told by the environment."""

from __future__ import annotations

import os
import sys

from ops.cli.main import main
from tests.support.sabotage import apply

if __name__ == "__main__":
    apply(os.environ)
    sys.exit(main())
