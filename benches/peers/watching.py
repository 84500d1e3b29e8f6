"""Processor time and memory of a server with all its processes, from /proc."""

import os
import threading

TICKS = os.sysconf("SC_CLK_TCK")


def family(root):
    """A process and its descendants."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = stat(int(name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def stat(pid):
    """Fields of /proc/PID/stat from the state on, for the name before it may hold spaces."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2].split()
    except OSError:
        return None


def cpu_seconds(root):
    """Of the family: its living members, and those that ended and were waited for."""
    fields = [f for f in map(stat, family(root)) if f]
    return sum(sum(map(int, f[11:15])) for f in fields) / TICKS


def memory_mb(root):
    """Shared pages counted once: the sum of the proportional set sizes."""
    total = 0
    for pid in family(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total / 1024


class Watch:
    """Watches a server from now until end()."""

    def __init__(self, pid):
        self.pid = pid
        self.rest = self.most = memory_mb(pid)
        self.cpu = cpu_seconds(pid)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        # Seldom enough that looking costs the server nothing worth counting.
        while not self.over.wait(0.5):
            self.most = max(self.most, memory_mb(self.pid))

    def end(self, mails):
        self.over.set()
        self.thread.join()
        self.most = max(self.most, memory_mb(self.pid))
        cpu = cpu_seconds(self.pid) - self.cpu
        return {"cpu_per_1000": cpu / max(mails, 1) * 1000, "rest_mb": self.rest, "load_mb": self.most}
