"""The load client benches/peers/smtpload.c as a process, and the log of what it saw acknowledged."""

import hashlib
import json
import subprocess
import threading
from collections import Counter

from .settings import ROOT, TARGET, need
from .wait import until

SOURCE = ROOT / "benches" / "peers" / "smtpload.c"
_building = threading.Lock()


def program():
    """The compiled client, built when its source is newer."""
    need("gcc")
    built = TARGET / "smtpload"
    with _building:
        if not built.exists() or built.stat().st_mtime < SOURCE.stat().st_mtime:
            TARGET.mkdir(parents=True, exist_ok=True)
            subprocess.run(["gcc", "-O2", "-Wall", "-o", built, SOURCE], check=True)
    return built


class Load:
    """A running load; `run` names its mails: RUN-0, RUN-1, …"""

    def __init__(self, place, port, run, sessions=20, messages=10_000_000, size=4000, seconds=600, to="support@localhost", options=()):
        self.acks_file = place / f"{run}.acks"
        self.acks_file.touch()
        self.process = subprocess.Popen(
            [program(), "-p", str(port), "-i", run, "-s", str(sessions), "-m", str(messages), "-l", str(size),
             "-T", str(seconds), "-t", to, "-a", self.acks_file, *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def wait(self, seconds=600):
        """Its summary, when it has sent everything."""
        output, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, output
        return json.loads(output)

    def stop(self):
        """Ends it at once; what it logged stays."""
        self.process.kill()
        if not self.process.stdout.closed:
            self.process.communicate()

    def acks(self, before=None):
        """Names of the mails that were acknowledged, up to a wall-clock time when one is given."""
        names = []
        for line in self.acks_file.read_text().splitlines():
            parts = line.split()
            if len(parts) == 3 and (before is None or float(parts[2]) < before):
                names.append(parts[0])
        return names

    def count(self):
        """Acknowledgements so far; cheap enough to ask often."""
        with open(self.acks_file, "rb") as log:
            return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b""))

    def reached(self, count, seconds=60):
        until(lambda: f"{count} mails are acknowledged, {self.count()} are", lambda: self.count() >= count, seconds)


class Books:
    """Holds what was acknowledged against what was filed, over restarts."""

    def __init__(self):
        self.seq = 0
        self.filed = Counter()
        self.entries = {}

    def read(self, admin):
        """Takes in the entries since the last reading."""
        for entry in admin.each_entry(self.seq):
            assert entry["seq"] > self.seq, f"seq {entry['seq']} came after {self.seq}"
            self.seq = entry["seq"]
            name = (entry["message_id"] or "").partition("@")[0]
            self.filed[name] += 1
            self.entries[name] = {key: entry[key] for key in ("id", "sha256", "size", "filing", "reason", "ticket")}

    def faults(self, acknowledged):
        """What is wrong, as lines: acknowledged mails that are missing, mails filed twice, mails that went astray."""
        missing = [name for name in acknowledged if not self.filed[name]]
        twice = [name for name, count in self.filed.items() if count > 1]
        astray = [f"{name} {e['filing']} {e['reason']}" for name, e in self.entries.items() if e["filing"] not in ("opened", "appended")]
        found = []
        for what, names in (("acknowledged and missing", missing), ("filed twice", twice), ("not opened", astray)):
            if names:
                found.append(f"{what}: {len(names)}, such as {', '.join(names[:5])}")
        return found


def check_bytes(admin, books, names):
    """The original bytes of these mails are whole, and their sum is the one that the entry gives."""
    for name in names:
        raw = admin.raw(books.entries[name])
        assert raw.endswith(f"end of {name}\r\n".encode()), f"{name} ends in {raw[-60:]!r}"
        assert hashlib.sha256(raw).hexdigest() == books.entries[name]["sha256"], f"{name}: another sha256"

