"""The page of `medfm3d view`, and the environment of all pages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medfm3d.evaluation.viewer.assets import niivue_licence, niivue_script, page_asset
from medfm3d.evaluation.viewer.cases import ViewerCase


def page_environment(**filters: Any) -> Environment:
    """Return what renders pages out of the package's templates.

    Everything is escaped, whatever the template is called: names of cases and organs come from files.
    """
    environment = Environment(
        loader=PackageLoader("medfm3d.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= filters
    return environment


def viewer_page(title: str, cases: Sequence[ViewerCase]) -> str:
    """Return the page that lists cases and shows the one that is clicked."""
    listed = [{"name": case.name, "masked": case.mask is not None} for case in cases]
    return page_environment().get_template("view.html").render(title=title, cases=listed)


def viewer_parts(cases: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    """Return what a page with a viewer in it holds: `styles`, `niivue` and `script`, and `cases`, which it can show.

    Args:
        cases: as `embed_cases` gives them.

    Raises:
        FileNotFoundError: if medfm3d was built without NiiVue.
    """
    # Within a script element nothing but its end tag matters, and JSON may be written without a "<".
    data = json.dumps(list(cases)).replace("<", "\\u003c")
    licence = niivue_licence().replace("*/", "* /")
    parts = {
        "styles": page_asset("viewer.css"),
        "niivue": f"/*\n{licence}*/\n{niivue_script()}",
        "script": page_asset("viewer.js"),
        "cases": data,
    }
    if unsafe := [name for name, text in parts.items() if "</script" in text.lower() or "<!--" in text]:
        raise ValueError(f"{', '.join(unsafe)}: would end the script element that it stands in")
    return {name: Markup(text) for name, text in parts.items()}
