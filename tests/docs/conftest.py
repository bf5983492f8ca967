"""Makes the helpers of these tests importable: pytest's import mode leaves a test's own folder off the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
