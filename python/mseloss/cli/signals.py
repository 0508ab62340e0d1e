"""Signals that end the command raise an exception, so that temporary files are removed."""

from __future__ import annotations

import signal
from contextlib import contextmanager

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_received = 0
_deferring = 0


def install():
    """Raises KeyboardInterrupt on SIGHUP, SIGINT and SIGTERM, unless they are ignored, as by nohup."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def ignore():
    """Ignores further signals while the command ends."""
    for number in _ENDING:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def received():
    """The signal that has ended the command; SIGINT also stands for a KeyboardInterrupt without one."""
    return signal.Signals(_received or signal.SIGINT)


@contextmanager
def deferred():
    """Steps that belong together: a signal raises its exception after the block."""
    global _deferring
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
    if _received and not _deferring:
        raise KeyboardInterrupt


def _stop(number, frame):
    global _received
    _received = number
    if not _deferring:
        raise KeyboardInterrupt
