"""Text of the user's in a bundle's config."""

from collections.abc import Mapping
from typing import Any


def config_literal(value: Any) -> Any:
    """Return a config value of which MONAI makes the given one: it reads `#` in any text, paths too, as `::`.

    Text that begins as an expression, a reference or a macro is one, and stays as it is.
    """
    if isinstance(value, str) and "#" in value and not value.startswith(("$", "@", "%")):
        return "$" + repr(value).replace("#", r"\x23")
    if isinstance(value, Mapping):
        return {name: config_literal(part) for name, part in value.items()}
    return [config_literal(part) for part in value] if isinstance(value, list) else value
