"""The one exception tree. Every message says what happened, what was expected and what to do.

HearthcastError
├── ConfigError          a house.toml, agent.toml or argument is wrong                   (exit code 2)
├── DataError            a table of readings cannot be used as it is                     (exit code 1)
├── BundleError          a bundle is damaged, incompatible or not what it claims         (exit code 1)
│   └── SignatureError   a bundle is unsigned, or signed by nobody this machine trusts
├── ExportError          a trained model cannot be exported faithfully                   (exit code 1)
├── TrainingError        a training run cannot start or go on                            (exit code 1)
└── ServiceError         broker, disk or model failed while the agent runs               (exit code 1)
    ├── CorruptError     a file of the agent is damaged
    └── StorageError     a file cannot be read or written now: disk full or read-only, file locked
        └── FullError    there is no room
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HearthcastError(Exception):
    """Root of all errors raised on purpose; `exit_code` is what a command line returns for it."""

    exit_code = 1


class ConfigError(HearthcastError):
    """A configuration file or argument is wrong."""

    exit_code = 2


class DataError(HearthcastError):
    """A table of readings cannot be used as it is."""


class BundleError(HearthcastError):
    """A bundle is damaged, incompatible or not what it claims to be."""


class SignatureError(BundleError):
    """A bundle is unsigned, or signed by nobody this machine trusts."""


class ExportError(HearthcastError):
    """A trained model cannot be exported faithfully."""


class TrainingError(HearthcastError):
    """A training run cannot start or go on."""


class ServiceError(HearthcastError):
    """Broker, disk or model failed while the agent runs."""


class CorruptError(ServiceError):
    """A file of the agent is damaged."""


class StorageError(ServiceError):
    """A file cannot be read or written now; it may be possible again later."""


class FullError(StorageError):
    """There is no room for what the agent has to write."""


def closest(word: str, valid: Iterable[str]) -> str:
    """What to write instead of `word`: the nearest valid word, or all of them."""
    options = sorted(valid)
    near = difflib.get_close_matches(word.lower(), [o.lower() for o in options], n=1, cutoff=0.5)
    if near:
        return f"did you mean {next(o for o in options if o.lower() == near[0])!r}?"
    return f"one of {', '.join(options)} is expected"
