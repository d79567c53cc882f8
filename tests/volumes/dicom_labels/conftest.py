"""Series with outlines, in several orientations."""

from pathlib import Path

import pytest
from drawn_series import PLACES, Drawn, draw


@pytest.fixture(scope="session", params=PLACES)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("drawn") / "series", **PLACES[request.param])


@pytest.fixture
def oblique(tmp_path: Path) -> Drawn:
    return draw(tmp_path / "series", **PLACES["oblique"])
