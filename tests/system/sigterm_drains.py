"""SIGTERM: mail under way may finish, every 250 that was given holds, and the exit status is 0."""

from harness import smtp
from harness.case import Case
from harness.load import Books, Load
from harness.smtp import Closed
from harness.wait import until


class SigtermDrains(Case):
    def test_under_load(self):
        ticketgate, books = self.daemon().start(), Books()
        load = Load(self.place, ticketgate.port, "load", sessions=30)
        self.addCleanup(load.stop)
        load.reached(1500)
        self.assertEqual(ticketgate.stop(), 0)
        load.stop()
        ticketgate.fsck()
        ticketgate.start()
        ticketgate.settle("marker")
        books.read(ticketgate.admin)
        self.assertEqual(books.faults(load.acks()), [])
        self.report(f"{len(load.acks())} acknowledged")

    def test_a_mail_under_way_is_finished(self):
        ticketgate = self.daemon().start()
        with smtp.Client(ticketgate.port) as client:
            client.greet()
            client.say("MAIL FROM:<alice@example.net>")
            client.say("RCPT TO:<support@localhost>")
            client.say("DATA", 354)
            half = smtp.message("under-way")
            client.send(half)
            ticketgate.process.terminate()
            until("no new connection is taken", lambda: not self.takes_connections(ticketgate))
            client.send(b".\r\n")
            client.expect(250)
        self.assertEqual(ticketgate.process.wait(30), 0, ticketgate.log())
        ticketgate.start()
        ticketgate.filed("under-way")

    def test_an_idle_session_does_not_hold_it_up(self):
        ticketgate = self.daemon().start()
        with smtp.Client(ticketgate.port) as idle:
            idle.greet()
            ticketgate.process.terminate()
            self.assertEqual(idle.reply()[0], 421)
            self.assertEqual(ticketgate.process.wait(10), 0)

    def takes_connections(self, ticketgate):
        try:
            with smtp.Client(ticketgate.port, timeout=2) as client:
                return client.reply()[0] == 220
        except (OSError, Closed):
            return False
