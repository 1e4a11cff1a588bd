"""A run that nobody tracks: `--tracking-uri off`."""

from __future__ import annotations

from typing import Any, Final

OFF: Final = "off"


class UntrackedRun:
    """Stands in for `tracking.TrackedRun` and keeps nothing."""

    id = ""
    interrupted = False

    def log_epoch(self, epoch: int, metrics: Any) -> None:
        """Nothing."""

    def log_scores(self, scores: Any) -> None:
        """Nothing."""

    def log_tags(self, tags: Any) -> None:
        """Nothing."""

    def log_picture(self, name: str, figure: Any) -> None:
        """Nothing."""

    def log_folder(self, folder: Any) -> None:
        """Nothing."""

    def log_forecaster(self, folder: Any) -> None:
        """Nothing."""
