"""What a person sees of a decision on MLflow's own page of a version, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import NEEDED, keep, running_browser, see

from .conftest import House, Told

pytestmark = NEEDED


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with running_browser(tmp_path / "chromium", size="1500,1300") as started:
        yield started


def test_versions_aliases_tags_and_report_are_shown(
    house: House, server: str, browser: Any, pytestconfig: pytest.Config
) -> None:
    house.promote(house.sweep())
    house.promote(house.sweep(), gates={"max_drops": {"accuracy": 0.05}})
    house.promote(house.sweep(), Told(gain=-0.1), challenger_alias="challenger")
    page = f"{server}/#/models/{house.name}"
    see(browser, page, "Version 1", "Version 2", "Version 3", "@ champion", "@ challenger")
    keep(browser, pytestconfig, "registered-model.png")
    told = ("Promoted: version 2 as 'champion'", "drop of accuracy", "standard error 0.01")
    see(browser, f"{page}/versions/2", *told, "automl_remote.decision", "promoted as champion")
    keep(browser, pytestconfig, "champion.png")
    see(browser, f"{page}/versions/3", "Refused: version 3 as 'champion'", "failed")
