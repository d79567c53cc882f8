"""Makes the benchmark's modules importable, as they are for tools/benchmark_fewshot.py beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
