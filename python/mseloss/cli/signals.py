"""Signals that end the command raise an exception, so that temporary files are removed."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_REPEAT = 1  # second: a signal that follows sooner does not interrupt the cleanup
_received = 0
_raised = -_REPEAT
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
        _raise()


def _stop(number, frame):
    global _received
    _received = _received or number
    if not _deferring:
        _raise()


def _raise():
    global _raised
    now = time.monotonic()
    if now - _raised >= _REPEAT:
        _raised = now
        raise KeyboardInterrupt
