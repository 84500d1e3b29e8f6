"""What the tests take from their surroundings."""

import contextlib
import os
import shutil
import socket
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = Path(os.environ.get("TICKETGATE", TARGET / "release" / "ticketgate"))
# Unix sockets allow 108 characters of path, so the tests do not live below the build directory.
WORK = Path(os.environ.get("TICKETGATE_TEST_DIR", "/var/tmp"))


def rounds(usual):
    """How often a soak repeats: ROUNDS from the environment, or its usual number."""
    return int(os.environ.get("ROUNDS", usual))


# The system gives ports from 32768 on to whoever connects, thousands of times in these tests: listeners stay below. Where
# a process begins depends on its number, and none is given out twice.
_PORTS = (12_000 + (os.getpid() * 61 + number) % 20_000 for number in range(20_000))


def free_port():
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free between 12000 and 32000")


def need(*programs):
    """Skips the test when a program it is made of is not installed."""
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise unittest.SkipTest(f"{program} is not installed")


def need_root(why):
    if os.geteuid() != 0:
        raise unittest.SkipTest(f"not root: {why}")
