"""Far ends that hang, put off or refuse: other mail passes them by, and each mail's state says what happened to it."""

import urllib.parse

from harness.case import Case
from harness.farends import Bad, Sink, channel, relay
from harness.load import Load
from harness.settings import free_port
from harness.wait import until

BAD = {"hangs": "hangs", "later": "451 4.2.0 come back later", "never": "550 5.7.1 not here"}
EACH, GOOD = 60, 1500


class BadServersHoldNobodyUp(Case):
    def gateway(self, ports):
        """One channel for each relay, whose mail leaves by it."""
        self.door = free_port()
        return self.daemon({
            "relay": [relay(name, port, 5) for name, port in ports.items()],
            "channel": [channel(name, name) for name in ports],
            "loops": {"per_recipient": []},
            "submission": {
                "listeners": [{"name": "submission", "bind": f"127.0.0.1:{self.door}"}], "trusted": ["127.0.0.0/8"],
                "max_connections_per_peer": 100, "max_mails_per_minute": 1_000_000,
            },
        }).start()

    def hand_in(self, name, mails):
        Load(self.place, self.door, name, sessions=10, messages=mails, to=f"somebody@{name}.example",
             options=["-f", f"{name}@localhost"]).wait(60)

    def mails(self, ticketgate, name):
        query = urllib.parse.urlencode({"channel": f"{name}@localhost", "limit": 1000})
        return ticketgate.admin.get(f"/v1/outbox?{query}")["mails"]

    def test_all_good_mail_leaves_while_bad_mail_waits(self):
        bad = {name: Bad(behaviour) for name, behaviour in BAD.items()}
        for far in bad.values():
            self.addCleanup(far.stop)
        sink = Sink(self.place).start()
        self.addCleanup(sink.stop)
        ticketgate = self.gateway({"support": sink.port} | {name: far.port for name, far in bad.items()})
        for name in bad:
            self.hand_in(name, EACH)
        until("the far end that hangs has all the connections that it gets", lambda: bad["hangs"].seen >= 5)
        self.hand_in("support", GOOD)
        until(lambda: f"{GOOD} mails at the sink, {sink.mails()} are", lambda: sink.mails() >= GOOD, 60)
        # All of it has left, and the one that hangs has still the same five connections.
        self.assertEqual((sink.mails(), bad["hangs"].seen), (GOOD, 5))
        expected = {"hangs": ("waiting", "queued"), "later": ("waiting", "delayed"), "never": ("done", "failed")}
        for name, wanted in expected.items():
            def settled(name=name, wanted=wanted):
                states = [(mail["state"], mail["delivery"][0]["state"]) for mail in self.mails(ticketgate, name)]
                return len(states) == EACH and set(states) == {wanted}
            until(f"mail for {name} is {wanted}", settled)

    def test_a_server_that_comes_back_is_tried_when_a_person_says_so(self):
        sink = Sink(self.place)
        ticketgate = self.gateway({"support": sink.port})
        self.hand_in("support", 200)
        rests = lambda: any(lane["rests_until"] for lane in ticketgate.admin.get("/v1/status")["outbox"]["lanes"])  # noqa: E731
        until("the lane of the server that is away rests", rests)
        until("all of it is filed", lambda: ticketgate.admin.get("/v1/status")["spool"]["mails"] == 0)
        held = ticketgate.command("outbox", "hold", "--all")
        self.assertEqual((held.returncode, held.stdout), (0, "200 mails are held\n"), held.stderr)
        sink.start()
        self.addCleanup(sink.stop)
        released = ticketgate.command("outbox", "release", "--all")
        self.assertEqual(released.stdout, "200 mails are released\n", released.stderr)
        # The rest of a server is 15 s at least.
        until(lambda: f"200 mails at the sink, {sink.mails()} are", lambda: sink.mails() >= 200, 10)
        until("the outbox is empty", lambda: ticketgate.admin.get("/v1/status")["outbox"]["mails"] == 0)
        self.assertEqual(sink.mails(), 200)
