"""What tests of mailboxes with OAuth share: a provider, a Dovecot that asks it about every token, somebody who consents."""

import urllib.parse

from .browser import Browser
from .dovecot import Dovecot
from .mailboxes import USER, MailboxCase
from .oidc import SCOPES, Provider
from .wait import until


class OAuthCase(MailboxCase):
    # How long access tokens live, in seconds.
    access_ttl = 20

    def setUp(self):
        super().setUp()
        self.client_secret = self.place / "client-secret"
        self.client_secret.write_text(self.provider.secret + "\n")
        self.app_secret = self.place / "app-secret"
        self.app_secret.write_text(self.provider.app_secret + "\n")

    def start_dovecot(self):
        self.provider = Provider(self.place, self.access_ttl, USER).start()
        self.addCleanup(self.provider.stop)
        return Dovecot(self.place, provider=self.provider).start()

    def oauth_channel(self, address=USER, name="Support", **changes):
        return self.channel(address, name, **{"password_file": None, "oauth": "bed", "flow": "code", **changes})

    def gateway(self, *channels, settings=None, **changes):
        """Starts the daemon with the provider's two registrations, and this channel or these."""
        bed = {"name": "bed", "preset": "generic", "issuer": self.provider.issuer}
        people = bed | {"client_id": self.provider.client, "client_secret_file": str(self.client_secret), "scopes": SCOPES}
        app = bed | {"name": "app", "client_id": self.provider.app, "client_secret_file": str(self.app_secret), "scopes": [".default"]}
        settings = {"oauth": [people, app], **(settings or {})}
        return self.ticketgate(*(channels or [self.oauth_channel(**changes)]), settings=settings)

    def begin(self, *options, address=USER, verb="connect"):
        """Begins an authorisation by the command line, and returns what somebody has to know."""
        return self.told(verb, address, "--no-wait", *options)["authorisation"]

    def authorisation(self, begun):
        channel = urllib.parse.quote(begun["channel"], safe="")
        return self.gate.admin.get(f"/v1/channels/{channel}/authorisations/{begun['id']}")

    def paste(self, begun, address):
        """Status and body of pasting what the browser's address line says."""
        channel = urllib.parse.quote(begun["channel"], safe="")
        target = f"/v1/channels/{channel}/authorisations/{begun['id']}/answer"
        status, _, body = self.gate.admin.request("POST", target, {"redirected_to": address})
        return status, body.decode()

    def ended(self, begun, state, seconds=20):
        """The authorisation once it has ended, which has to be in this way."""
        def over():
            now = self.authorisation(begun)
            return now if now["state"] != "waiting" else None
        now = until(lambda: f"the authorisation ends: {self.authorisation(begun)}\n{self.gate.log()}", over, seconds)
        self.assertEqual(now["state"], state, now)
        return now

    def consent(self, user=USER, address=USER, verb="connect"):
        """Connects by the code flow, as a person with a browser on this machine does."""
        begun = self.begin(address=address, verb=verb)
        Browser(user).follow(begun["url"])
        return self.ended(begun, "granted")

    def channel_now(self, address=USER):
        return next(c for c in self.gate.admin.get("/v1/channels")["channels"] if c["address"] == address)

    def failed_looks(self):
        """How often looking into a mailbox has failed since the start."""
        lines = [line for line in self.gate.metrics().splitlines() if line.startswith("ticketgate_mailbox_looks_total") and '"failed"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)
