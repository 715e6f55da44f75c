"""Makes `kill_and_resume` importable: the tests and `scripts/faults` share it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
