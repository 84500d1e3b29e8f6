"""What answers a gateway: servers that hand mail on, robots that answer it; and what shows that all is quiet."""

import itertools
import re

from . import smtp
from .outbound import outbox, told
from .sink import Sink
from .wait import until

# What is left of a mail where somebody takes everything off that tells of a machine, a conversation or a way.
PLAIN = {b"from", b"to", b"subject", b"date", b"mime-version", b"content-type", b"content-transfer-encoding"}
_numbers = itertools.count(1)


def fields(mail):
    """The header fields as they stand."""
    return re.split(rb"\r\n(?![ \t])", mail.data.partition(b"\r\n\r\n")[0])


def field(mail, name):
    """The value of a field, or an empty text."""
    found = (line.partition(b":")[2] for line in fields(mail) if line.lower().startswith(name.lower().encode() + b":"))
    return re.sub(r"\r\n\s*", " ", next(found, b"").decode()).strip()


def plain(address):
    """An address without its plus detail."""
    return re.sub(r"\+[^@]*", "", address)


def plain_fields(mail):
    """Those that anybody's mail has: no marks, no token, no reference, no Message-ID."""
    return [line for line in fields(mail) if line.partition(b":")[0].lower() in PLAIN]


def fresh_id():
    return b"Message-ID: <%d.fresh@between.example>" % next(_numbers)


def with_fields(lines, mail, more=b""):
    """The mail under these header fields, with more text at its end."""
    return b"\r\n".join(lines) + b"\r\n\r\n" + mail.data.partition(b"\r\n\r\n")[2] + more


def stripped(mail):
    """The mail as if a person wrote it just now, to whom it went."""
    return plain(mail.sender), mail.recipients, with_fields([*plain_fields(mail), fresh_id()], mail)


class Answering(Sink):
    """Keeps what it gets and, before it says 250, sends what `answer(mail)` gives: (sender, recipients, data) to the
    gateway's door. A text is said instead of 250; None says nothing more than that."""

    def __init__(self, answer, gate=None):
        super().__init__(self._answers)
        self.answer, self.gate = answer, gate

    def _answers(self, verb, mail):
        if verb != "DATA":
            return None
        said = self.answer(mail)
        if said is None or isinstance(said, str):
            return said
        sender, recipients, data = said
        try:
            self.gate.send(data, sender=sender, recipients=recipients)
        except (smtp.Refused, OSError) as trouble:
            return f"451 4.3.0 the other side: {trouble}"
        return None

    def to(self, address):
        """The mails that it took for an address."""
        return [mail for mail in self.mails if address in mail.recipients]


def quiet(*gates):
    """Waits until nothing more comes of what has come in. A stranger writes to each gateway: tickets are acknowledged in
    their order, so once his is acknowledged those before it are too; twice without anything new is the end."""
    counts = []
    def look():
        for gate in gates:
            stranger = f"stranger{next(_numbers)}@elsewhere.example"
            gate.send(smtp.message(stranger.partition("@")[0], sender=stranger), sender=stranger, recipients=[gate.address])
            def acknowledged():
                mails = outbox(gate)
                ours = [mail for mail in mails if mail["delivery"] and mail["delivery"][0]["address"] == stranger]
                return ours and all(mail["state"] in ("done", "held") for mail in mails)
            until(lambda: f"{stranger} is acknowledged: {outbox(gate)[:3]}\n{gate.log()}", acknowledged, 30, every=0.05)
        counts.append([len(from_others(gate)) for gate in gates] + [len(sent(gate)) for gate in gates])
        return counts[-2:-1] == counts[-1:]
    until(lambda: f"all is quiet: {counts}", look, 60)


def from_others(gate):
    """Entries of the mails that came in, but for those of the strangers."""
    entries = [entry for entry in gate.admin.entries() if entry["direction"] == "inbound"]
    return [entry for entry in entries if not (entry["message_id"] or "").startswith("stranger")]


def sent(gate, state="relayed"):
    """Mails that left, or are in another state, each for its one recipient; but for those to the strangers."""
    to = [(mail, mail["delivery"][0]) for mail in outbox(gate)]
    return [mail for mail, one in to if one["state"] == state and not one["address"].startswith("stranger")]


def brakes(gate):
    return told(gate, "loops", "list")["brakes"]


def metric(gate, name):
    found = re.search(rf"^{name} (\S+)$", gate.metrics(), re.MULTILINE)
    assert found, f"there is no metric {name}"
    return float(found[1])


def told_of(gate, kind, count=1):
    """The events of a kind, as soon as there are so many."""
    found = []
    feed = gate.admin.events()
    for _, event in feed:
        found += [event] if event["kind"] == kind else []
        if len(found) == count:
            feed.close()
            return found
    raise AssertionError(f"the feed ended with {len(found)} of {count} {kind}")
