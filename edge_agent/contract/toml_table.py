"""One TOML table, read strictly: an unknown key or a value of another type is an error that names file and key."""

from __future__ import annotations

import math
from typing import Any, Final

from edge_agent.contract.errors import ConfigError, closest

NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_MISSING: Final = object()


class TableReader:
    """Takes typed values out of one TOML table, and complains about keys that it does not know."""

    def __init__(self, data: dict[str, Any], *, source: str, where: str, keys: tuple[str, ...] | None = None) -> None:
        """Read `data`.

        Args:
            data: the table.
            source: the file, for messages.
            where: the table's place in the file, for messages.
            keys: all keys that it may have. None: those asked for until `done` is called.

        Raises:
            ConfigError: another key than `keys`.
        """
        self.data, self.source, self.where = data, source, where
        self.known = list(keys or ())
        if keys is not None:
            self.done()

    def error(self, key: str, problem: str) -> ConfigError:
        """The error to raise about `key`."""
        return ConfigError(f"{self.source}: {self.where}key {key!r}: {problem}")

    def _take(self, key: str, types: tuple[type, ...], expected: str, default: Any) -> Any:
        self.known.append(key)
        value = self.data.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                raise self.error(key, f"missing: {expected} is expected")
            return default
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise self.error(key, f"{value!r} is {_type_name(value)}: {expected} is expected")
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        """A string."""
        return str(self._take(key, (str,), "a text", default))

    def optional_text(self, key: str) -> str | None:
        """A string, or None when the key is absent."""
        value = self._take(key, (str,), "a text", None)
        if value == "":
            raise self.error(key, "the text is empty: fill it in, or leave the key out")
        return None if value is None else str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty when the key is absent."""
        value = self._take(key, (list,), "a list of texts", [])
        if not all(isinstance(item, str) for item in value):
            raise self.error(key, f"{value!r}: a list of texts is expected")
        return tuple(value)

    def name(self, key: str) -> str:
        """A string that is safe in topics, file names and column names."""
        value = self.text(key)
        if not value or not set(value) <= NAME_CHARACTERS:
            raise self.error(key, f"{value!r} is no name: letters, digits, '_' and '-' are expected")
        return value

    def integer(self, key: str, default: Any = _MISSING) -> int:
        """A whole number."""
        return int(self._take(key, (int,), "a whole number", default))

    def number(self, key: str, default: Any = _MISSING) -> float:
        """A finite number."""
        value = float(self._take(key, (int, float), "a number", default))
        if not math.isfinite(value):
            raise self.error(key, f"{value!r}: a finite number is expected")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean."""
        return bool(self._take(key, (bool,), "true or false", default))

    def choice(self, key: str, valid: tuple[str, ...], default: Any = _MISSING) -> str:
        """One of the words in `valid`."""
        value = self.text(key, default)
        if value not in valid:
            raise self.error(key, f"{value!r} is not valid: {closest(value, valid)}")
        return value

    def number_pair(self, key: str, default: tuple[float, float]) -> tuple[float, float]:
        """`[low, high]`, ascending."""
        value = self._take(key, (list,), "[low, high]", list(default))
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in value)
        if len(value) != 2 or not numbers or not value[0] < value[1]:
            raise self.error(key, f"{value!r}: two numbers [low, high], finite and low first, are expected")
        return float(value[0]), float(value[1])

    def tables(self, key: str, keys: tuple[str, ...]) -> list[TableReader]:
        """The tables of an array of tables, at least one; `keys` are all that each may have."""
        value = self._take(key, (list,), f"one or more [[{key}]] tables", _MISSING)
        if not value or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"one or more [[{key}]] tables are expected")
        names = [f" ({item['name']!r})" if isinstance(item.get("name"), str) else "" for item in value]
        return [
            TableReader(item, source=self.source, where=f"[[{key}]] number {i}{name}: ", keys=keys)
            for i, (item, name) in enumerate(zip(value, names, strict=True), 1)
        ]

    def table(self, key: str) -> TableReader:
        """A sub-table; empty when absent."""
        value = self._take(key, (dict,), f"a [{key}] table", {})
        return TableReader(value, source=self.source, where=f"[{key}] ")

    def done(self) -> None:
        """Complain about a key that nobody knows.

        Raises:
            ConfigError: there is one; the message names the closest known key.
        """
        for key in self.data:
            if key not in self.known:
                raise self.error(key, f"unknown key: {closest(key, self.known)}")


def _type_name(value: object) -> str:
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return next((name for kind, name in names.items() if type(value) is kind), type(value).__name__)
