"""Every module of a package, but for those of packages that need not be installed."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from types import ModuleType

NEED_OTHER_PACKAGES = {"ws_learner.compat.hugging_face", "ws_learner.compat.lightning"}


def every_module(*packages: ModuleType) -> Iterator[ModuleType]:
    for package in packages:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    yield importlib.import_module(found.name)
                except ImportError:
                    assert found.name in NEED_OTHER_PACKAGES, found.name
