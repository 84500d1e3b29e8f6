"""Relay "direct" with real name servers: MX, DKIM keys, DANE and MTA-STS as DNS has them, and what `doctor` finds there."""

import base64
import hashlib
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest import SkipTest

from harness import tls
from harness.case import Case
from harness.names import Names, text
from harness.outbound import hand_in, outbox, submission, written
from harness.postfix import FAR_END_TLS, Postfix
from harness.pypi import dkim_verdicts, python
from harness.settings import BINARY, free_port, need
from harness.wait import until

OURS = "support@desk.example"
SUPPORT = {"address": OURS, "name": "Support", "queue": "Support"}
MIXED = {"address": "help@mixed.example", "name": "Help", "queue": "Support"}
# Where policies are fetched from: HTTPS has one port, so it gets an address of its own.
WEB = "127.0.43.1"


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True).stdout


def public(file):
    return openssl("pkey", "-in", file, "-pubout", "-outform", "DER")


class Direct(Case):
    def setUp(self):
        super().setUp()
        python()
        need("openssl", "knotd", "unbound")
        self.authority = tls.authority(self.place)
        names = ("mx.sts.example", "mta-sts.sts.example")
        self.certificate, self.key = tls.signed(self.place, self.authority, "far", *names)
        self.far = Postfix(self.place, FAR_END_TLS, name="far", certificate=self.certificate, key=self.key)
        self.addCleanup(self.far.stop)
        self.far.start()
        self.keys = {name: self.made(name) for name in ("rsa", "ed25519", "gone", "other")}
        self.names = Names(self, self.records(), insecure=["insecure.example"])
        self.door = free_port()
        relay = {"name": "direct", "kind": "direct", "port": self.far.port, "dane": True, "ca_file": str(self.authority)}
        self.settings = {
            "server": {"hostname": "gw.example"}, "channel": [SUPPORT], "relay": [relay], "dkim": [self.signing("rsa"), self.signing("ed25519")],
            "submission": submission(self.place, self.door), "verify": {"dns": {"name_servers": [f"127.0.0.1:{self.names.port}"]}},
        }

    def made(self, name):
        """A private key's file: ed25519 where it is called so, RSA otherwise."""
        file = self.place / f"{name}.pem"
        file.write_bytes(openssl("genpkey", "-algorithm", "ed25519") if name == "ed25519" else openssl("genrsa", "2048"))
        return file

    def signing(self, name, domain="desk.example"):
        algorithm = "ed25519-sha256" if name == "ed25519" else "rsa-sha256"
        return {"domain": domain, "selector": name, "key_file": str(self.keys[name]), "algorithm": algorithm}

    def published(self, name):
        # RFC 8463 publishes the bare key, without the wrapping that tells its algorithm.
        key, kind = public(self.keys[name]), "ed25519" if name == "ed25519" else "rsa"
        key = key[-32:] if kind == "ed25519" else key
        return text(f"v=DKIM1; k={kind}; p={base64.b64encode(key).decode()}")

    def records(self):
        port = self.far.port
        key = openssl("x509", "-in", self.certificate, "-noout", "-pubkey")
        spki = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, capture_output=True).stdout
        right, wrong = hashlib.sha256(spki).hexdigest(), "ab" * 32
        here, nobody = "A 127.0.0.1", "A 127.0.0.66"
        return [
            ("gw.example", here),
            ("desk.example", "MX 10 gw.example."),
            ("desk.example", text("v=spf1 ip4:127.0.0.1 -all")),
            ("_dmarc.desk.example", text("v=DMARC1; p=reject; adkim=s; aspf=s")),
            ("rsa._domainkey.desk.example", self.published("rsa")),
            ("ed25519._domainkey.desk.example", self.published("ed25519")),
            # What the operator of this domain forgot, and what he mixed up.
            ("mixed.example", "MX 10 gw.example."),
            ("mixed.example", text("v=spf1 -all")),
            ("_dmarc.mixed.example", text("v=DMARC1; p=quarantine")),
            ("other._domainkey.mixed.example", self.published("rsa")),
            ("plain.example", "MX 10 mx.plain.example."), ("mx.plain.example", here),
            ("implicit.example", here),
            ("fallback.example", "MX 10 dead.fallback.example."), ("dead.fallback.example", nobody),
            ("fallback.example", "MX 20 mx.fallback.example."), ("mx.fallback.example", here),
            ("null.example", "MX 0 ."), ("null.example", here),
            ("dane.example", "MX 10 mx.dane.example."), ("mx.dane.example", here),
            (f"_{port}._tcp.mx.dane.example", f"TLSA 3 1 1 {right}"),
            ("stranger.example", "MX 10 mx.stranger.example."), ("mx.stranger.example", here),
            (f"_{port}._tcp.mx.stranger.example", f"TLSA 3 1 1 {wrong}"),
            # Nobody vouches for this one's records, so that they ask for nothing.
            ("insecure.example", "MX 10 mx.insecure.example."), ("mx.insecure.example", here),
            (f"_{port}._tcp.mx.insecure.example", f"TLSA 3 1 1 {wrong}"),
            ("sts.example", "MX 10 mx.sts.example."), ("mx.sts.example", here),
            ("_mta-sts.sts.example", text("v=STSv1; id=1")),
            ("unnamed.example", "MX 10 mx.unnamed.example."), ("mx.unnamed.example", here),
            ("_mta-sts.unnamed.example", text("v=STSv1; id=1")),
        ]

    def hand_in(self, domains, sender=OURS, name=""):
        for domain in domains:
            to = f"alice@{domain}"
            mail = written(name or domain, to=to.encode()).replace(b"support@localhost", sender.encode())
            hand_in(self.door, [mail], recipient=to, sender=sender)

    def states(self, gate, count):
        """State and answer of each domain's recipient, once all have been tried."""
        def tried():
            found = {d["address"].split("@")[1]: (d["state"], d["reply"] or "") for m in outbox(gate) for d in m["delivery"]}
            return found if len(found) == count and all(state != "queued" for state, _ in found.values()) else None
        return until(lambda: f"{count} mails are tried: {outbox(gate)}\n{gate.log()}", tried, 40, every=0.1)

    def test_mail_finds_its_servers_and_keys_are_fetched_from_dns(self):
        gate = self.daemon(self.settings).start()
        # What is to become of it, and a part of the answer.
        wanted = {
            "plain.example": ("relayed", "250"), "implicit.example": ("relayed", "250"), "fallback.example": ("relayed", "250"),
            "dane.example": ("relayed", "250"), "insecure.example": ("relayed", "250"),
            "stranger.example": ("delayed", "certificate"), "null.example": ("failed", "5.1.10"),
            "nowhere.example": ("failed", "5.1.2"),
        }
        self.hand_in(wanted)
        states = self.states(gate, len(wanted))
        for domain, (state, part) in wanted.items():
            self.assertEqual(states[domain][0], state, (domain, states[domain]))
            self.assertIn(part, states[domain][1], domain)
        relayed = [domain for domain, (state, _) in wanted.items() if state == "relayed"]
        until("the mails arrive", lambda: len(self.far.arrived()) == len(relayed), 20)
        for mail in self.far.arrived():
            said = dkim_verdicts(mail.replace(b"\n", b"\r\n"), self.names.port)
            self.assertEqual(sorted(said), ["good ed25519-sha256 desk.example ed25519", "good rsa-sha256 desk.example rsa"], mail)
        spoilt = self.far.arrived()[0].replace(b"\n", b"\r\n").replace(b"prints again", b"prints on")
        self.assertFalse([line for line in dkim_verdicts(spoilt, self.names.port) if line.startswith("good")])
        connections = self.connections(gate)
        self.assertEqual(connections["verified"], 1, f"DANE names the server of dane.example: {connections}")
        self.report(f"{len(relayed)} mails with signatures that verify with the keys of a name server; {connections}")

    def connections(self, gate):
        """How many connections there were, by their protection."""
        counted = [line for line in gate.metrics().splitlines() if line.startswith("ticketgate_relay_connections_total")]
        return {line.split('protection="')[1].split('"')[0]: int(line.split()[-1]) for line in counted}

    def doctor(self, **changes):
        """What is found about each check of each address: levels with words."""
        gate = self.daemons[-1]
        gate.configure({**self.settings, **changes})
        done = gate.command("doctor", "--config", gate.config_file, "--json")
        found = {}
        for one in json.loads(done.stdout)["findings"]:
            found.setdefault((one["about"], one["check"]), []).append((one["level"], one["said"]))
        return found

    def test_doctor_tells_what_dns_has(self):
        self.daemon(self.settings)
        found = self.doctor()
        keys = [f"{name}._domainkey.desk.example publishes our key" for name in ("rsa", "ed25519")]
        self.assertEqual(found[OURS, "dkim"], [("good", said) for said in keys])
        for check in ("spf", "dmarc", "mx"):
            self.assertEqual([level for level, _ in found[OURS, check]], ["good"], found)
        mixed, channel = MIXED["address"], MIXED
        signing = [self.signing(name, "mixed.example") for name in ("other", "gone")]
        found = self.doctor(channel=[channel], dkim=signing)
        wrong = [("wrong", "other._domainkey.mixed.example publishes another key than ours"),
                 ("wrong", "gone._domainkey.mixed.example does not exist")]
        self.assertEqual(found[mixed, "dkim"], wrong)
        self.assertEqual([found[mixed, check][0][0] for check in ("spf", "dmarc")], ["wrong", "wrong"], found)
        # A smarthost may send from other addresses than its own, and a key of ours makes that no matter.
        smart = {"name": "smart", "kind": "smtp", "host": "gw.example"}
        found = self.doctor(channel=[channel], dkim=[], relay=[smart])
        self.assertEqual([found[mixed, check][0][0] for check in ("spf", "dmarc")], ["warning", "warning"], found)
        # The default relay may take over for one of the domains.
        quota = {"mails_per_day": 10, "give_way_percent": 90}
        relays = [*self.settings["relay"], {**smart, "quota": quota}]
        channels = [{**one, "relay": "smart"} for one in (SUPPORT, channel)]
        found = self.doctor(channel=channels, relay=relays, outbox={"default_relay": "direct"})
        self.assertEqual([found[who, "takeover"][0][0] for who in (OURS, mixed)], ["good", "warning"], found)

    def test_the_default_relay_takes_over_where_dns_permits_it(self):
        quota = {"mails_per_day": 2, "give_way_percent": 90}
        hub = {"name": "hub", "kind": "smtp", "host": "127.0.0.1", "port": self.far.port, "security": "none", "quota": quota}
        channels = [{**one, "relay": "hub"} for one in (SUPPORT, MIXED)]
        relays = [*self.settings["relay"], hub]
        settings = {**self.settings, "channel": channels, "relay": relays, "outbox": {"default_relay": "direct"}}
        gate = self.daemon(settings).start()
        senders = {"desk": OURS, "mixed": MIXED["address"]}
        for name, sender in senders.items():
            for n in range(3):
                self.hand_in(["plain.example"], sender, f"{name}{n}")

        def relays_of(sender):
            mails = reversed([mail for mail in outbox(gate) if mail["sender"] == sender])
            return [mail["delivery"][0]["relay"] if mail["state"] == "done" else mail["waits_for"] for mail in mails]
        until(lambda: f"the default relay takes over: {relays_of(OURS)}\n{gate.log()}",
              lambda: relays_of(OURS) == ["hub", "hub", "direct"], 30, every=0.1)
        why = 'the default relay "direct" may not send for mixed.example: by its DMARC record (p=quarantine) SPF or DKIM has to pass'

        def waits():
            found = relays_of(senders["mixed"])
            return found[:2] == ["hub", "hub"] and "messages in 24 hours" in (found[2] or "") and why in found[2]
        until(lambda: f"the other one waits and tells why: {relays_of(senders['mixed'])}\n{gate.log()}", waits, 30, every=0.1)
        said = gate.command("explain", "mixed2@crm.example").stdout
        self.assertIn("may not send for mixed.example", " ".join(said.split()))
        problems = {problem["code"]: problem["said"] for problem in gate.admin.get("/v1/status")["problems"]}
        self.assertIn(why, problems["takeover_refused"])
        self.assertEqual(len(self.far.arrived()), 5)

    def policies(self):
        """Serves the policies of MTA-STS (RFC 8461 section 3.3): one that names its server, one that names another's."""
        mode = "version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\n"
        policies = {"mta-sts.sts.example": mode + "mx: mx.sts.example\r\n", "mta-sts.unnamed.example": mode + "mx: mx.elsewhere.example\r\n"}

        class Page(BaseHTTPRequestHandler):
            def do_GET(self):
                policy = policies.get(self.headers["Host"].split(":")[0]) if self.path == "/.well-known/mta-sts.txt" else None
                self.send_response(200 if policy else 404)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(policy or "")))
                self.end_headers()
                self.wfile.write((policy or "").encode())

            def log_message(self, *_):
                pass

        try:
            server = HTTPServer((WEB, 443), Page)
        except OSError as error:
            raise SkipTest(f"no HTTPS server on {WEB}: {error}") from None
        certificate, key = tls.signed(self.place, self.authority, "web", *policies)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return policies

    def test_policies_of_mta_sts_hold(self):
        need("unshare")
        names = self.policies()
        # The system's own look-up of names, which HTTPS uses, knows them in this daemon's world only.
        hosts = self.place / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{WEB} {name}\n" for name in names))
        probe = subprocess.run(["unshare", "--mount", "mount", "--bind", hosts, "/etc/hosts"], capture_output=True, text=True)
        if probe.returncode != 0:
            raise SkipTest(f"no world of its own for the daemon: {probe.stderr.strip()}")
        gate = self.daemon(self.settings)
        run = f'mount --bind "{hosts}" /etc/hosts && exec "{BINARY}" run --config "{gate.config_file}"'
        gate.start(command=["unshare", "--mount", "sh", "-c", run])
        self.hand_in(["sts.example", "unnamed.example"])
        states = self.states(gate, 2)
        self.assertEqual(states["sts.example"][0], "relayed", (states, gate.log()))
        self.assertEqual(states["unnamed.example"][0], "delayed", states)
        self.assertIn("MTA-STS policy of unnamed.example does not name its mail server", states["unnamed.example"][1])
        self.assertEqual(self.connections(gate)["verified"], 1)
