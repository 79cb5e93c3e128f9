"""`python -m condvest` is the command `condvest`."""

import sys

from condvest.cli import main

sys.exit(main())
