"""What the tests take from their surroundings."""

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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def need(*programs):
    """Skips the test when a program it is made of is not installed."""
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise unittest.SkipTest(f"{program} is not installed")


def need_root(why):
    if os.geteuid() != 0:
        raise unittest.SkipTest(f"not root: {why}")
