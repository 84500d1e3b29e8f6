"""Waiting for conditions, with a deadline and a message that says what did not happen."""

import time


class TooLate(AssertionError):
    """A condition did not come true in time."""


def until(what, condition, seconds=15, every=0.02):
    """Asks `condition` until it gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TooLate(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)
