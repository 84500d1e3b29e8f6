"""A company's Postfix forwards into the daemon over STARTTLS, and keeps mail in its own queue while the daemon cannot."""

from harness import smtp, tls
from harness.case import Case
from harness.postfix import FORWARDING, Postfix
from harness.wait import until


class PostfixForwards(Case):
    def setUp(self):
        super().setUp()
        certificate, key = tls.certificate(self.place)
        self.tls = {"tls": {"certificate": str(certificate), "key": str(key)}}
        self.ticketgate = self.daemon(self.tls)
        self.postfix = Postfix(self.place, FORWARDING, relay=self.ticketgate.port)
        self.addCleanup(self.postfix.stop)
        self.postfix.start()

    def hand_in(self, name, **more):
        smtp.send(self.postfix.port, smtp.message(name, **more))

    def names(self):
        return sorted(e["message_id"].partition("@")[0] for e in self.ticketgate.admin.entries())

    def test_mail_is_forwarded_with_tls_and_filed(self):
        self.ticketgate.start()
        self.hand_in("forwarded", subject="Forwarded by Postfix")
        entry = self.ticketgate.filed("forwarded")
        self.assertEqual((entry["filing"], entry["subject"], entry["origin"]["helo"]), ("opened", "Forwarded by Postfix", "gw.example.com"))
        self.assertTrue(entry["origin"]["tls"])
        until("Postfix's queue is empty", lambda: self.postfix.queued() == 0)
        self.assertIn("TLS connection established to 127.0.0.1", self.postfix.log())
        self.assertIn("status=sent (250", self.postfix.log())

    def test_a_burst_is_filed_exactly_once(self):
        self.ticketgate.start()
        wanted = [f"burst-{n:03}" for n in range(200)]
        with smtp.Client(self.postfix.port) as client:
            client.greet()
            for name in wanted:
                client.mail(smtp.message(name))
        until("Postfix's queue is empty", lambda: self.postfix.queued() == 0, 60)
        self.ticketgate.settle("marker")
        self.assertEqual(self.names(), [*wanted, "marker"])

    def test_while_the_daemon_is_down_mail_waits_and_then_comes_once(self):
        self.hand_in("patient")
        self.postfix.logged("status=deferred (connect to")
        self.ticketgate.start()
        self.postfix.flush()
        self.ticketgate.filed("patient", 60)
        until("Postfix's queue is empty", lambda: self.postfix.queued() == 0)
        self.ticketgate.settle("marker")
        self.assertEqual(self.names(), ["marker", "patient"])

    def test_452_is_temporary_for_postfix(self):
        self.ticketgate.configure(self.tls | {"store": {"low_water_bytes": 1 << 40}})
        self.ticketgate.start(page="/healthz")
        self.hand_in("squeezed")
        self.postfix.logged("said: 452 4.3.1")
        self.assertEqual(self.postfix.queued(), 1)
        self.ticketgate.stop()
        self.ticketgate.configure(self.tls)
        self.ticketgate.start()
        self.postfix.flush()
        self.ticketgate.filed("squeezed", 60)
        until("Postfix's queue is empty", lambda: self.postfix.queued() == 0)
        self.ticketgate.settle("marker")
        self.assertEqual(self.names(), ["marker", "squeezed"])
