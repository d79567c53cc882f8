"""How threads wait is said before torch is loaded, and only where the user has not said it."""

import subprocess
import sys

from medfm3d.openmp import waiting_settings


def test_what_the_user_says_stays() -> None:
    assert waiting_settings({}) == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
    assert waiting_settings({"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    assert waiting_settings({"OMP_WAIT_POLICY": "ACTIVE"}) == {}


def test_asking_for_the_settings_does_not_load_torch() -> None:
    code = "import sys, medfm3d.openmp; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
