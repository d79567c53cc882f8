"""What hatchling does before it builds a wheel, a source distribution or an editable install: see vendor_niivue.py."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class VendorNiivue(BuildHookInterface):
    """Puts NiiVue's script into the package; git ignores it, so pyproject.toml lists it as an artifact."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch and verify the script, where it is not there yet."""
        source = Path(self.root) / "tools" / "vendor_niivue.py"
        specification = importlib.util.spec_from_file_location("vendor_niivue", source)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        module.vendor_niivue(self.root)
