"""What sends mail on to smtp-sink: ticketgate's outbox and Postfix's queue."""

import os

from harness import postfix
from harness.daemon import Daemon
from harness.farends import channel, relay
from harness.settings import free_port
from harness.wait import until
from servers import answers

# As fast as Postfix relays to one host: connections are kept, as many at once as ours, nothing is slowed down.
SENDING = """
relayhost = [127.0.0.1]:{relay}
smtp_tls_security_level = none
smtp_connection_cache_destinations = static:all
smtp_connection_cache_on_demand = yes
smtp_connection_reuse_count_limit = 0
default_destination_concurrency_limit = CONCURRENCY
initial_destination_concurrency = CONCURRENCY
in_flow_delay = 0
defer_transports = DEFERRED
"""


class Ticketgate:
    """One channel a relay: mail from NAME@localhost leaves by the relay NAME."""

    def __init__(self, folder, relays, concurrency):
        self.door = free_port()
        self.daemon = Daemon(folder, {
            "store": {"segment_bytes": None, "low_water_bytes": None, "ballast_bytes": None},
            "relay": [relay(name, port, concurrency) for name, port in relays.items()],
            "channel": [channel(name, name) for name in relays],
            # All mails of a bench go to one address, which is what this brake is there for.
            "loops": {"per_recipient": []},
            "submission": {
                "listeners": [{"name": "submission", "bind": f"127.0.0.1:{self.door}"}], "trusted": ["127.0.0.0/8"],
                "max_connections_per_peer": 500, "max_mails_per_minute": 1_000_000,
            },
        })
        self.daemon.start()
        self.port = self.daemon.port

    def pid(self):
        return self.daemon.process.pid

    def _status(self):
        return self.daemon.admin.get("/v1/status")

    def waits(self, mails):
        """All of them stand in the outbox, and nothing more is done."""
        def there():
            status = self._status()
            return status["spool"]["mails"] == 0 and status["outbox"]["mails"] >= mails
        until(f"{mails} mails wait in the outbox", there, 300, every=0.1)

    def release(self):
        done = self.daemon.command("outbox", "retry", "--all")
        assert done.returncode == 0, done.stderr

    def idle(self):
        until("the outbox is empty", lambda: self._status()["outbox"]["mails"] == 0, 60)

    def stop(self):
        self.daemon.stop(60)


class Postfix:
    def __init__(self, folder, sink, concurrency, deferred):
        role = SENDING.replace("CONCURRENCY", str(concurrency)).replace("DEFERRED", "smtp, relay" if deferred else "")
        self.server = postfix.Postfix(folder, role, sink).start()
        self.port = self.door = self.server.port
        answers(self.port)

    def pid(self):
        return self.server.pid()

    def waits(self, mails):
        spool = self.server.base / "spool"
        def deferred():
            return sum(len(files) for _, _, files in os.walk(spool / "deferred"))
        until(lambda: f"{mails} mails are deferred, {deferred()} are", lambda: deferred() >= mails, 300, every=0.2)
        file = self.server.base / "etc" / "main.cf"
        file.write_text(file.read_text().replace("defer_transports = smtp, relay", "defer_transports ="))
        self.server._control("reload")

    def release(self):
        self.server.flush()

    def idle(self):
        until("the queue is empty", lambda: self.server.queued() == 0, 60)

    def stop(self):
        self.server.stop()
