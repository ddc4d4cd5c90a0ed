"""`python -m edge_sdk.cli`: the same command where the script is not on the path."""

import sys

from edge_sdk.cli import main

sys.exit(main())
