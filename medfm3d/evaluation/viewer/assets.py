"""The files that a page with a viewer is made of."""

from importlib.resources import files
from pathlib import Path

PACKAGE = files("medfm3d.evaluation")
NIIVUE = PACKAGE / "viewer" / "vendor" / "niivue.js"


def niivue_script() -> str:
    """Return the script of NiiVue, which the build put into the package.

    Raises:
        FileNotFoundError: if medfm3d was built without it.
    """
    if not NIIVUE.is_file():
        raise FileNotFoundError(
            f"{NIIVUE}: NiiVue is not there, medfm3d was built without it; install medfm3d again where npm's registry "
            "can be reached (`pip install .`), or in a checkout run `python tools/vendor_niivue.py`"
        )
    return NIIVUE.read_text(encoding="utf-8")


def niivue_licence() -> str:
    """Return NiiVue's licence (BSD, two clauses), which goes wherever its script goes."""
    return (PACKAGE / "viewer" / "NIIVUE_LICENSE.txt").read_text(encoding="utf-8")


def page_asset(name: str) -> str:
    """Return a script or style sheet of ours, such as viewer.js, out of the folder of templates."""
    return (PACKAGE / "templates" / Path(name).name).read_text(encoding="utf-8")
