"""One daemon process: its configuration, its start, its end, and what can be asked of it."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import urllib.error
import urllib.request

from . import config, smtp
from .admin import Admin
from .settings import BINARY, free_port
from .wait import until

OPEN_FILES = 40_000


def allow_many_files():
    """Raises this process's limit of open files as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


class Daemon:
    """A daemon in `place`; start() and stop() may follow each other on the same data."""

    def __init__(self, place, changes=None):
        self.place = place
        self.ports = {"smtp": free_port(), "metrics": free_port(), "smtps": free_port()}
        self.config_file = place / "ticketgate.toml"
        self.log_file = place / "daemon.log"
        self.socket = place / "admin.sock"
        self.admin = Admin(self.socket)
        self.process = None
        self.configure(changes or {})

    @property
    def port(self):
        return self.ports["smtp"]

    def configure(self, changes):
        """Writes the configuration: the usual one with these changes."""
        self.settings = config.merge(config.usual(self.place, self.ports), changes)
        self.config_file.write_text(config.to_toml(self.settings) + "\n")

    def launch(self, command=None, environment=None, **options):
        """Starts the process without waiting for it to be ready."""
        command = command or [BINARY, "run", "--config", self.config_file]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.place,
                env=os.environ | (environment or {}), preexec_fn=allow_many_files, **options,
            )
        return self

    def start(self, seconds=30, page="/readyz", **options):
        """Starts it and waits until it takes mail; with /healthz until it runs, though it may refuse mail."""
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}\n{self.log()}")
            return self.probe(page) == 200
        self.launch(**options)
        until(lambda: f"{page} answers 200\n{self.log()}", answers, seconds)
        return self

    def stop(self, seconds=30):
        """SIGTERM, and the exit status of the drained daemon."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end {seconds} s after SIGTERM\n{self.log()}") from None

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def log(self, last=4000):
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return text[-last:]

    def probe(self, path):
        """Status of a page of the metrics listener, or None when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['metrics']}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return None

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['metrics']}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def memory(self):
        """Resident bytes now and at the highest."""
        found = {}
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name in ("VmRSS", "VmHWM"):
                    found[name] = int(value.split()[0]) * 1024
        return found["VmRSS"], found["VmHWM"]

    def command(self, *arguments, seconds=60):
        """Runs a client command against this daemon."""
        return subprocess.run(
            [str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=seconds, cwd=self.place,
            env=os.environ | {"TICKETGATE_SOCKET": str(self.socket)},
        )

    def fsck(self, *options):
        """Checks the store while no daemon has it; fails the test unless it is clean. --deep reads every mail."""
        assert self.process is None or self.process.poll() is not None, "fsck wants the daemon stopped"
        done = subprocess.run(
            [str(BINARY), "fsck", *options, "--config", str(self.config_file)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"fsck exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def send(self, data, **transaction):
        smtp.send(self.port, data, **transaction)

    def filed(self, name, seconds=20, after=0):
        """The entry of the mail whose Message-ID begins with `name`@, as soon as it is filed."""
        def look():
            nonlocal after
            for entry in self.admin.each_entry(after):
                if (entry["message_id"] or "").startswith(f"{name}@"):
                    return entry
                after = entry["seq"]
            return None
        return until(lambda: f"{name} is filed\n{self.log()}", look, seconds)

    def settle(self, name, after=0, seconds=120):
        """Sends a marker mail and waits for its entry: filing goes in the log's order, so all before it is filed."""
        self.send(smtp.message(name, subject=f"marker {name}"))
        return self.filed(name, seconds, after)


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line]
