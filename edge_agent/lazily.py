"""Modules that a library imports and hardly ever uses: loaded when something of them is asked for.

Not importlib's LazyLoader: its modules are loaded by the second `import` of their name already.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def put_off(name: str) -> None:
    """Let `import name` cost nothing until an attribute of the module is asked for. Only for a module in a package."""
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def load(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), attribute)

    stand_in.__getattr__ = load  # type: ignore[method-assign]  # see PEP 562
    package, _, last = name.rpartition(".")
    setattr(import_module(package), last, stand_in)
    sys.modules[name] = stand_in
