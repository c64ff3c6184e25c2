"""AutoML sweeps on a remote Linux machine over SSH, recorded as nested MLflow runs."""

from importlib import import_module
from typing import Final

__version__ = "0.1.0"
__all__ = [
    "AutoMLConfig",
    "AutoMLRemoteError",
    "SweepRun",
    "__version__",
    "attach",
    "explain_model",
    "promote",
    "register",
    "retrieve_model_explanation",
    "rollback",
    "submit",
]

_HOME: Final = {
    "AutoMLConfig": "config",
    "AutoMLRemoteError": "errors",
    "SweepRun": "submitted",
    "attach": "api",
    "explain_model": "explanations",
    "promote": "promoting",
    "register": "promoting",
    "retrieve_model_explanation": "explanations",
    "rollback": "promoting",
    "submit": "api",
}
"""Which module a public name lives in; for type checkers they are in `__init__.pyi`."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: the command line starts without it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Give the public names."""
    return __all__
