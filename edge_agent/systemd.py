"""What systemd wants to know: ready, alive, stopping. Without systemd nothing happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from systemd_watchdog import WatchDog


class Notifier:
    """Talks to the service manager over `NOTIFY_SOCKET` (sd_notify(3)); every method does nothing where there is none."""

    def __init__(self) -> None:
        self._watchdog = WatchDog() if os.environ.get("NOTIFY_SOCKET") else None
        self._fed_at = float("-inf")

    def ready(self, status: str) -> None:
        """The service is up."""
        self._tell(WatchDog.ready)
        self.status(status)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(lambda watchdog: watchdog.status(text))

    def alive(self, now_monotonic: float) -> None:
        """Feed the watchdog when it is due; call it from the loop that must not hang."""
        if self._watchdog is not None and now_monotonic - self._fed_at >= self._watchdog.timeout / 2e6:
            self._fed_at = now_monotonic
            # not ping(): it measures on the wall clock, and starves the watchdog after the clock was set back
            self._tell(WatchDog.notify)

    def stopping(self) -> None:
        """The service is on its way out."""
        # the library has no word for it, and a status may be followed by further lines
        self.status("stopping\nSTOPPING=1")

    def _tell(self, call: Callable[[WatchDog], None]) -> None:
        if self._watchdog is not None:
            with contextlib.suppress(OSError):  # a manager that does not listen is no reason to stop forecasting
                call(self._watchdog)
