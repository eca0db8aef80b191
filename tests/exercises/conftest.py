"""So that the tests can import what records the notebooks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
