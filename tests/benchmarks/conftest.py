"""The benchmarks are scripts in a folder of their own: their modules are found by this path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
