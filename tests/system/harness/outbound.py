"""What tests of mail that leaves share: programs that hand it in, Postfix as smarthost and far end, and what arrived."""

import base64
import json
import subprocess

from . import smtp, tls
from .settings import free_port, need
from .dovecot import Dovecot
from .postfix import FAR_END, SMARTHOST, Postfix
from .wait import until

PASSWORD = "let-me-in"
SASL = """
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


def written(name, body=b"It prints again.\r\n", extra=b"", to=b"alice@example.net"):
    """A mail of a program that writes its own, as support@localhost."""
    return (
        b"From: Support <support@localhost>\r\nTo: <" + to + b">\r\nSubject: News\r\nMessage-ID: <" + name.encode()
        + b"@crm.example>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" + extra + b"\r\n" + body
    )


def submission(place, port, **more):
    """Settings of a submission door with an account `crm` that may send as anybody."""
    secret = place / "crm.password"
    secret.write_text(PASSWORD + "\n")
    listeners = [{"name": "submission", "bind": f"127.0.0.1:{port}", "tls": "plain"}]
    account = {"name": "crm", "password_file": str(secret), "senders": ["*"]}
    return {"listeners": listeners, "accounts": [account], "max_mails_per_minute": 1_000_000, **more}


def login(client, name="crm", password=PASSWORD):
    said = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    client.say(f"AUTH PLAIN {said}", 235)


def hand_in(port, mails, recipient="alice@example.net", sender="support@localhost"):
    """Hands mails in on one connection; true for each answer 250."""
    with smtp.Client(port) as client:
        client.greet()
        login(client)
        for data in mails:
            client.mail(data, sender=sender, recipients=[recipient])


def parted(mail, written):
    """The names of the fields in front of what was written; None unless the rest is exactly that.

    A Maildir has LF line ends, and SMTP ends a mail with a line end."""
    wanted = written.replace(b"\r\n", b"\n")
    wanted += b"" if wanted.endswith(b"\n") else b"\n"
    if not mail.endswith(wanted):
        return None
    front = mail[:len(mail) - len(wanted)]
    return [line.split(b":")[0].decode() for line in front.split(b"\n") if line and line[:1] not in b" \t"]


class Bed:
    """A smarthost that asks Dovecot about its logins, and behind it a server that keeps what arrives."""

    def __init__(self, case, provider=None):
        need("dovecot", "postfix")
        place, sasl = case.place, free_port()
        self.far = Postfix(place, FAR_END, name="far")
        case.addCleanup(self.far.stop)
        self.far.start()
        self.dovecot = Dovecot(place, SASL.format(port=sasl), provider=provider).start()
        case.addCleanup(self.dovecot.stop)
        self.authority = tls.authority(place)
        certificate, key = tls.signed(place, self.authority, "smarthost")
        self.smarthost = Postfix(
            place, SMARTHOST, relay=self.far.port, name="smarthost", certificate=certificate, key=key, sasl=sasl,
        )
        case.addCleanup(self.smarthost.stop)
        self.smarthost.start()
        self.secret = place / "smarthost.password"
        self.secret.write_text(self.dovecot.password + "\n")

    def relay(self, **changes):
        """A relay through the smarthost; None takes a key away."""
        relay = {
            "name": "smarthost", "kind": "smtp", "host": "localhost", "port": self.smarthost.port,
            "ca_file": str(self.authority), "user": "ticketgate", "password_file": str(self.secret), **changes,
        }
        return {key: value for key, value in relay.items() if value is not None}

    def arrived(self, count, seconds=40):
        """All mails at the far end, as soon as there are so many."""
        until(lambda: f"{count} mails arrive, not {len(self.far.arrived())}\n{self.smarthost.log()[-2000:]}",
              lambda: len(self.far.arrived()) >= count, seconds)
        return self.far.arrived()


def outbox(daemon, **query):
    """All mails of the outbox, the newest first."""
    mails, before = [], None
    while True:
        page = daemon.admin.get("/v1/outbox", limit=500, **query, **({"before": before} if before else {}))
        mails += page["mails"]
        before = page["before"]
        if not before:
            return mails


def told(daemon, *arguments):
    """What a client command answers as JSON."""
    done = daemon.command(*arguments, "--json")
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def all_relayed(daemon, count, seconds=60):
    """Waits until so many mails are done, each for all its recipients; returns them."""
    def done():
        mails = outbox(daemon)
        good = [m for m in mails if m["state"] == "done" and {d["state"] for d in m["delivery"]} == {"relayed"}]
        return mails if len(good) == len(mails) >= count else None
    return until(lambda: f"{count} mails are relayed: {[m for m in outbox(daemon) if m['state'] != 'done'][:3]}\n{daemon.log()}",
                 done, seconds, every=0.1)


def swaks(port, *options, sender="support@localhost", to="alice@example.net"):
    need("swaks")
    done = subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{port}", "--from", sender, "--to", to, "--helo", "crm.example", *map(str, options)],
        capture_output=True, text=True, errors="replace", timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
