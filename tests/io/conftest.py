"""Makes `fuzzing` importable: the tests and `scripts/fuzz` share its seeds and its mutations."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
