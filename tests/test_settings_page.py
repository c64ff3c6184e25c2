"""The page of settings is made of the settings: it cannot be out of date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from mlflow_automl_remote.config import METRICS, MODELS, AutoMLConfig
from mlflow_automl_remote.config.names import RENAMED, WITHOUT_MEANING

DOCS = Path(__file__).parents[1] / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    """After a change run: python docs/generate_settings.py."""
    assert _generator().page() == (DOCS / "settings.md").read_text(encoding="utf-8")


def test_the_page_names_every_setting_metric_model_and_earlier_name() -> None:
    """Each setting has a description that is a sentence."""
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    names = {*AutoMLConfig.model_fields, *RENAMED, *WITHOUT_MEANING}
    for listed in (*METRICS.values(), *MODELS.values()):
        names |= set(listed)
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    for field in AutoMLConfig.model_fields.values():
        assert (field.description or "").strip().endswith(".")
