"""`python -m fastinetd` is the command `fastinetd`."""

import sys

from fastinetd.cli.main import main

sys.exit(main())
