"""`python -m matpac`, for launchers that want a module."""

import sys

from matpac.cli import main

sys.exit(main())
