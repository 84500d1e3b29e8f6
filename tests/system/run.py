#!/usr/bin/env python3
"""Runs the system tests: the real binary with real peers. Needs nothing but Python's standard library.

    tests/system/run.py [WORD…]      only the tests whose file or name contains one of the words

TICKETGATE names the binary (target/release/ticketgate), ROUNDS how often a soak repeats, KEEP=1 keeps the directory of
a test that failed, SYSTEM_JSON a file for the results as JSON.
"""

import json
import os
import signal
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness.settings import BINARY  # noqa: E402


class Told(unittest.TestResult):
    """Prints a line a test as it ends, and what went wrong at once, not at the end."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def startTest(self, test):
        super().startTest(test)
        self.current = test
        self.began = time.monotonic()
        if sys.stdout.isatty():
            print(f"  ....    {title(test)}", end="\r", flush=True)

    def _tell(self, word, test, more=""):
        if self.rows and self.rows[-1]["test"] == title(test) and word == "FAILED":
            # Its clean-up failed too, or another of its sub-tests did: still one failed test.
            self.rows[-1]["why"] += more
            print("\n".join("          " + line for line in more.rstrip().splitlines()))
            return
        seconds = time.monotonic() - getattr(self, "began", time.monotonic())
        figures = getattr(test, "figures", [])
        self.rows.append({"test": title(test), "result": word, "seconds": round(seconds, 1), "figures": figures, "why": more})
        print(f"  {word:7} {title(test)}  ({seconds:.1f} s)")
        for figure in figures:
            print(f"          {figure}")
        if more:
            print("\n".join("          " + line for line in more.rstrip().splitlines()))
        sys.stdout.flush()

    def addSuccess(self, test):
        self._tell("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._tell("FAILED", test, self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            kept = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._tell("FAILED", test, f"{subtest.id()}\n{kept[-1][1]}")

    def addError(self, test, err):
        super().addError(test, err)
        self._tell("FAILED", test, self.errors[-1][1])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._tell("SKIPPED", test, f"because: {reason}")


def title(test):
    return test.id().replace(".test_", ": ").replace("_", " ") if hasattr(test, "id") else str(test)


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def main(words):
    if not BINARY.exists():
        print(f"no daemon at {BINARY}; build it with `cargo build --release` or set TICKETGATE")
        return 2
    loader = unittest.TestLoader()
    tests = list(flatten(loader.loadTestsFromNames(sorted(p.stem for p in HERE.glob("*.py") if p.stem != "run"))))
    if words:
        tests = [t for t in tests if any(w.replace("-", "_").removesuffix(".py") in t.id() for w in words)]
    if not tests:
        print(f"no test is named like {' or '.join(words)}")
        return 2
    result = Told()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        unittest.TestSuite(tests).run(result)
    except KeyboardInterrupt:
        # The test's processes, mounts and directory go with it.
        result.current.doCleanups()
        print("interrupted")
        return 130
    count = {word: sum(row["result"] == word for row in result.rows) for word in ("ok", "FAILED", "SKIPPED")}
    if os.environ.get("SYSTEM_JSON"):
        Path(os.environ["SYSTEM_JSON"]).write_text(json.dumps(result.rows, indent=1))
    skipped = f", {count['SKIPPED']} skipped" if count["SKIPPED"] else ""
    print(f"{count['ok']} passed, {count['FAILED']} failed{skipped}")
    return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
