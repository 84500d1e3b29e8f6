"""What systemd relies on: READY, WATCHDOG and STOPPING over its socket, and listening sockets that it passes."""

import os
import socket
import sys

from harness import smtp
from harness.case import Case
from harness.settings import BINARY, free_port
from harness.wait import until

# Stands in for systemd: puts the passed descriptors at 3 and on, and the process's own id where it belongs.
PASS_SOCKETS = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
for number, passed in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(passed, 3 + number, inheritable=True)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Systemd(Case):
    def setUp(self):
        super().setUp()
        self.heard = []
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(str(self.place / "notify"))
        self.notify.settimeout(0)
        self.environment = {"NOTIFY_SOCKET": str(self.place / "notify")}

    def listen(self):
        try:
            while True:
                self.heard += self.notify.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self.heard

    def hears(self, line, seconds=15):
        until(lambda: f"{line} is said, not only {self.heard}", lambda: line in self.listen(), seconds)

    def test_ready_watchdog_stopping(self):
        ticketgate = self.daemon()
        ticketgate.start(environment=self.environment | {"WATCHDOG_USEC": "600000"})
        self.hears("READY=1")
        self.heard.clear()
        self.hears("WATCHDOG=1", 5)
        self.heard.clear()
        self.hears("WATCHDOG=1", 5)
        self.assertEqual(ticketgate.stop(), 0)
        self.hears("STOPPING=1")

    def test_a_reload_is_announced(self):
        ticketgate = self.daemon()
        ticketgate.start(environment=self.environment)
        self.hears("READY=1")
        self.heard.clear()
        ticketgate.reload()
        self.hears("RELOADING=1")
        self.hears("READY=1")

    def test_ready_comes_after_the_ports_are_open(self):
        ticketgate = self.daemon()
        ticketgate.launch(environment=self.environment)
        self.hears("READY=1", 30)
        ticketgate.send(smtp.message("at-once"))

    def test_passed_sockets_are_used(self):
        with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
            passed = [s.fileno() for s in (first, second)]
            port, other = first.getsockname()[1], second.getsockname()[1]
            unused = free_port()
            ticketgate = self.daemon({"smtp": {"listeners": [
                {"name": "smtp", "bind": f"127.0.0.1:{unused}"},
                {"name": "inside", "bind": f"127.0.0.1:{free_port()}"},
            ]}})
            # Another program on the configured port: it is not needed, for the passed socket takes its place.
            with socket.create_server(("127.0.0.1", unused)):
                ticketgate.start(
                    command=[sys.executable, "-c", PASS_SOCKETS, ",".join(map(str, passed)), BINARY, "run", "--config", ticketgate.config_file],
                    environment=self.environment | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp:inside"}, pass_fds=passed,
                )
        smtp.send(port, smtp.message("passed"))
        smtp.send(other, smtp.message("passed-too"))
        ticketgate.filed("passed")
        ticketgate.filed("passed-too")
        self.assertEqual(ticketgate.stop(), 0)
        self.assertFalse(os.path.exists(ticketgate.socket), "the admin socket is left over")
