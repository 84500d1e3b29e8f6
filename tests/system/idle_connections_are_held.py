"""Ten thousand sessions that do nothing are held in bounded memory, and the next client is served as fast as ever."""

import resource
import selectors
import socket
import time

from harness import smtp
from harness.case import Case
from harness.daemon import allow_many_files
from harness.wait import until

COUNT = 10_000
SOURCES = 20
BYTES_EACH = 16 << 10


class IdleConnections(Case):
    def setUp(self):
        super().setUp()
        self.answered = 0
        allow_many_files()
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed < COUNT + 200:
            self.skipTest(f"this machine allows a process {allowed} open files")

    def open_all(self, port):
        """COUNT connections from 127.0.0.10 and on, each greeted and with its EHLO answered."""
        held, waiting = [], selectors.DefaultSelector()
        self.addCleanup(lambda: [s.close() for s in held])
        for number in range(COUNT):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind((f"127.0.0.{10 + number % SOURCES}", 0))
            connection.settimeout(20)
            connection.connect(("127.0.0.1", port))
            connection.setblocking(False)
            held.append(connection)
            waiting.register(connection, selectors.EVENT_READ)
            self.drain(waiting, 0)
        until("all sessions are greeted and answered", lambda: self.answered >= COUNT or self.drain(waiting, 0.2) is None, 60)
        return held

    def drain(self, waiting, timeout):
        """Reads what has come, answers greetings with EHLO, and counts the sessions whose EHLO is answered."""
        for key, _ in waiting.select(timeout):
            said = key.fileobj.recv(4096)
            self.assertNotEqual(said, b"", "the daemon closed an idle connection")
            if said.startswith(b"220"):
                key.fileobj.send(b"EHLO idle.example\r\n")
            else:
                self.assertTrue(said.startswith(b"250"), said)
                self.answered += 1

    def test_ten_thousand(self):
        ticketgate = self.daemon({"smtp": {"max_connections": COUNT + 100, "max_connections_per_peer": COUNT // SOURCES + 10}}).start()
        ticketgate.send(smtp.message("before"))
        at_rest, _ = ticketgate.memory()
        held = self.open_all(ticketgate.port)
        began = time.monotonic()
        ticketgate.send(smtp.message("beside"))
        seconds = time.monotonic() - began
        loaded, _ = ticketgate.memory()
        each = (loaded - at_rest) / COUNT
        self.report(f"{at_rest >> 20} MiB at rest, {loaded >> 20} MiB with {COUNT} idle sessions ({each / 1024:.1f} KiB each); a mail beside them took {seconds * 1000:.0f} ms")
        self.assertLess(seconds, 1.0)
        self.assertLess(each, BYTES_EACH)
        ticketgate.filed("beside")
        self.assertEqual(len(held), COUNT)

    def test_one_peer_cannot_take_all_connections(self):
        ticketgate = self.daemon({"smtp": {"max_connections_per_peer": 5, "rate_exempt": []}}).start()
        held = [smtp.Client(ticketgate.port) for _ in range(5)]
        self.addCleanup(lambda: [client.close() for client in held])
        for client in held:
            client.greet()
        with smtp.Client(ticketgate.port) as sixth:
            self.assertEqual(sixth.reply()[0], 421)
        other = socket.create_connection(("127.0.0.1", ticketgate.port), timeout=10, source_address=("127.0.0.9", 0))
        with other:
            self.assertTrue(other.recv(100).startswith(b"220"))
