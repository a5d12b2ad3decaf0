"""`python -m fastinetd` is the command `fastinetd`."""

import sys

from fastinetd.cli import main

sys.exit(main())
