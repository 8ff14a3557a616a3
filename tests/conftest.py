"""What holds for every test."""

from __future__ import annotations

import signal
from types import FrameType

pytest_plugins = ["groups", "needs", "speeds"]


def pytest_configure() -> None:
    """Have programs that tests start take signals as they do in a terminal, also where pytest runs in the background.

    A shell has `make test &` ignore Ctrl-C, and `nohup` has it ignore hang-ups. Programs inherit that, and tests that
    press Ctrl-C would wait in vain. A handler, even one that does nothing, they do not inherit.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
