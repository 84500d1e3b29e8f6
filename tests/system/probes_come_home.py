"""Probes of relays: two real Postfixes as smarthosts, one of which drops a header field, bring them home to the door.

What was found is told everywhere, and mail that carries the field leaves by the other one.
"""

import json

from harness.case import Case
from harness.names import Names, text
from harness.outbound import hand_in, submission, told, written
from harness.postfix import SPOILING, Postfix
from harness.settings import free_port
from harness.wait import until

SUPPORT = "support@desk.example"
# What a careless server does to the fields that mail must carry.
CHECKS = "/^Auto-Submitted:/ IGNORE\n/^X-Zendesk-Email-Id: .*/ REPLACE X-Zendesk-Email-Id: other\n"
MACHINE = b"Auto-Submitted: auto-generated\r\nX-Zendesk-Email-Id: 01HZZZ\r\n"


class Probes(Case):
    def setUp(self):
        super().setUp()
        self.names = Names(self, [("desk", text("v=spf1 ip4:127.0.0.1 -all"))], insecure=["desk.example"])
        self.gate, self.door = self.daemon(), free_port()
        home = f"smtp:[127.0.0.1]:{self.gate.port}"
        self.lossy, self.good = self.smarthost("lossy", home, CHECKS), self.smarthost("good", home, "")
        self.configure()
        self.gate.start()

    def smarthost(self, name, home, checks):
        file = self.place / f"{name}.checks"
        file.write_text(checks)
        made = Postfix(self.place, SPOILING, name=name, domain="desk.example", home=home, checks=file)
        self.addCleanup(made.stop)
        return made.start()

    def configure(self, **lossy):
        def relay(name, server, **more):
            return {"name": name, "kind": "smtp", "host": "127.0.0.1", "port": server.port, "security": "none", **more}
        channel = {"address": SUPPORT, "name": "Support", "queue": "Support", "relay": "lossy"}
        self.gate.configure({
            "channel": [channel], "relay": [relay("lossy", self.lossy, **lossy), relay("good", self.good)],
            "outbox": {"default_relay": "good"}, "submission": submission(self.place, self.door),
            "verify": {"dns": {"name_servers": [f"127.0.0.1:{self.names.port}"]}},
        })

    def reloaded(self, lost_headers):
        self.gate.reload()
        until("the reload is there", lambda: told(self.gate, "relays", "show", "lossy")["lost_headers"] == lost_headers, 10)

    def probed(self, relay):
        """A relay is probed; what is known of it once the probe is home."""
        sent = told(self.gate, "relays", "probe", relay)["probe"]
        self.assertEqual((sent["channel"], sent["state"]), (SUPPORT, "under_way"))
        def home():
            shown = told(self.gate, "relays", "show", relay)
            return shown if shown["probe"]["state"] == "home" and shown["home"]["entry"] == sent["entry"] else None
        return until(lambda: f"the probe of {relay} comes home\n{told(self.gate, 'relays', 'show', relay)}\n{self.gate.log()}", home, 30)

    def hand_in(self, name, extra):
        to = "alice@far.example"
        mail = written(name, extra=extra, to=to.encode()).replace(b"support@localhost", SUPPORT.encode())
        hand_in(self.door, [mail], recipient=to, sender=SUPPORT)

    def left_by(self, name):
        """The relay that a mail was relayed by, and what its trace says of its fields."""
        def relayed():
            found = self.gate.command("explain", f"{name}@crm.example", "--json")
            entry = found.returncode == 0 and json.loads(found.stdout)["entries"][0]
            return entry if entry and entry["delivery"][0]["state"] == "relayed" else None
        entry = until(lambda: f"{name} leaves\n{self.gate.log()}", relayed, 30)
        return entry["delivery"][0]["relay"], [s["said"] for s in entry["trace"] if s["step"] == "fields"]

    def problems(self):
        return {p["code"]: p["said"] for p in self.gate.admin.get("/v1/status")["problems"]}

    def losses(self):
        lines = [line for line in self.gate.metrics().splitlines() if line.startswith("ticketgate_relay_header_losses_total{")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def test_what_a_relay_loses_is_found_told_and_avoided(self):
        lossy = self.probed("lossy")
        fates = {field["name"]: (field["fate"], field["required"]) for field in lossy["home"]["fields"]}
        self.assertEqual(fates["Auto-Submitted"], ("dropped", True))
        self.assertEqual(fates["X-Zendesk-Email-Id"], ("changed", True))
        for name in ("X-Auto-Response-Suppress", "X-Mailer", "X-Ticketgate-From-Account-Id", "X-Ticketgate-Email-Id", "X-Zendesk-From-Account-Id"):
            self.assertEqual(fates[name], ("kept", True), fates)
        for name in ("Message-ID", "In-Reply-To", "References", "Reply-To", "From"):
            self.assertIn(fates[name], (("kept", False), ("folded", False)), fates)
        self.assertEqual((lossy["loses"], lossy["home"]["door"]), (["Auto-Submitted", "X-Zendesk-Email-Id"], "smtp"))
        # It is told in every place.
        self.assertIn("relay \"lossy\" loses Auto-Submitted, X-Zendesk-Email-Id", self.problems()["relay_loses_headers"])
        self.assertIn('ticketgate_relay_header_survives{header="Auto-Submitted",relay="lossy"} 0', self.gate.metrics())
        self.assertIn('ticketgate_relay_header_survives{header="X-Mailer",relay="lossy"} 1', self.gate.metrics())
        doctor = " ".join(self.gate.command("doctor").stdout.split())
        self.assertIn("warning: relay lossy headers: it loses Auto-Submitted, X-Zendesk-Email-Id", doctor)
        self.assertIn("not known: relay good headers: it was never probed", doctor)
        shown = self.gate.command("relays", "list").stdout
        self.assertRegex(shown, r"lossy +smtp .* home +Auto-Submitted, X-Zendesk-Email-Id")
        sent = told(self.gate, "explain", lossy["home"]["entry"])["entries"][0]
        self.assertIn("probe", [step["step"] for step in sent["trace"]])
        home = next(e for e in told(self.gate, "rejects", "list")["rejects"] if e["reason"] == "probe")
        self.assertEqual((home["filing"], home["message_id"]), ("dropped", sent["message_id"]))
        self.assertEqual(told(self.gate, "tickets", "list")["tickets"], [])
        # Nothing else is known to keep the fields yet: the mail leaves without them, and that is counted.
        self.hand_in("first", MACHINE)
        by, said = self.left_by("first")
        self.assertEqual(by, "lossy", said)
        self.assertIn("no other relay that it may leave by is known to keep it", said[0])
        lost = 'ticketgate_relay_header_losses_total{header="%s",relay="lossy"}'
        counted = {lost % "Auto-Submitted": 1, lost % "X-Zendesk-Email-Id": 1}
        until(lambda: f"the loss is counted: {self.losses()}", lambda: self.losses() == counted, 10)
        # Once it is known, mail that carries them goes around; other mail stays.
        self.assertEqual(self.probed("good")["loses"], [])
        self.hand_in("second", MACHINE)
        self.hand_in("third", b"")
        self.assertEqual(self.left_by("second")[0], "good")
        self.assertIn("it leaves by \"good\", which keeps it", self.left_by("second")[1][0])
        self.assertEqual(self.left_by("third"), ("lossy", []))
        arrived = until("it arrives at good", lambda: self.good.arrived(), 20)
        self.assertEqual(len(arrived), 1)
        for line in MACHINE.decode().split("\r\n"):
            self.assertIn(line, arrived[0].decode())
        self.assertEqual(self.losses(), counted)
        # Who does not want it so has it counted only.
        self.configure(lost_headers="count")
        self.reloaded("count")
        self.hand_in("fourth", MACHINE)
        by, said = self.left_by("fourth")
        self.assertEqual(by, "lossy")
        self.assertIn("its lost_headers is \"count\"", said[0])
        until("it is counted", lambda: set(self.losses().values()) == {2}, 10)
        # What was found outlives a restart.
        self.gate.stop()
        self.gate.start()
        self.assertEqual(told(self.gate, "relays", "show", "lossy")["loses"], lossy["loses"])
        self.gate.stop()
        self.gate.fsck("--deep")

    def test_a_probe_that_does_not_come_home_is_told(self):
        self.lossy.stop()
        away = self.smarthost("away", "discard:", "")
        self.lossy = away
        self.configure(probe_patience="1s", lost_headers="count")
        self.reloaded("count")
        sent = told(self.gate, "relays", "probe", "lossy")["probe"]
        wanted = "it has not come home after 1s; the relay has taken it"
        until(lambda: f"it is late: {self.problems()}", lambda: wanted in self.problems().get("relay_probe_lost", ""), 20, every=0.2)
        shown = told(self.gate, "relays", "show", "lossy")
        self.assertEqual((shown["probe"]["state"], shown["home"], shown["loses"]), ("late", None, []))
        self.assertEqual(told(self.gate, "outbox", "show", sent["entry"])["delivery"][0]["state"], "relayed")
        done = self.gate.command("relays", "probe", "nowhere")
        self.assertEqual((done.returncode, "there is no relay \"nowhere\"" in done.stderr), (1, True), done)
