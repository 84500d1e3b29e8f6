"""A real OpenID provider (npm oidc-provider) on loopback, and the questions and disturbances of a test."""

import json
import secrets
import shutil
import subprocess
import threading
import unittest
import urllib.request

from .settings import ROOT, TARGET, free_port, need
from .wait import until

SOURCE = ROOT / "tests" / "system" / "peers" / "oidc"
PARTS = ("package.json", "package-lock.json", "server.mjs", "store.mjs")
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
SCOPES = ["openid", "offline_access", "email", "IMAP.AccessAsUser.All"]
_installing = threading.Lock()


def program():
    """The server's script beside its installed packages."""
    need("node", "npm")
    place = TARGET / "oidc"
    with _installing:
        place.mkdir(parents=True, exist_ok=True)
        lock = place / "package-lock.json"
        stale = not lock.exists() or lock.read_bytes() != (SOURCE / lock.name).read_bytes()
        for part in PARTS:
            shutil.copy(SOURCE / part, place / part)
        if stale or not (place / "node_modules" / "oidc-provider").exists():
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, capture_output=True, text=True, timeout=100
            )
            if done.returncode != 0:
                lock.unlink(missing_ok=True)
                raise unittest.SkipTest(f"npm cannot install oidc-provider: {done.stderr[-300:]}")
    return place / "server.mjs"


class Provider:
    """One provider with new client secrets; its tokens live `access_ttl` seconds."""

    client, app = "gateway", "gateway-app"

    def __init__(self, place, access_ttl=20, app_user="support@localhost"):
        script = program()
        self.base = place / "oidc"
        self.base.mkdir()
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.secret, self.app_secret, self.introspection_secret = (secrets.token_urlsafe(24) for _ in range(3))
        self.log_file = self.base / "log"
        config = self.base / "config.json"
        config.write_text(json.dumps({
            "port": self.port, "accessTtl": access_ttl, "appUser": app_user,
            "introspector": ["dovecot", self.introspection_secret], "clients": self._clients(),
        }))
        self.command = ["node", script, config]
        self.process = None

    def _clients(self):
        people = {
            "redirect_uris": [f"http://127.0.0.1{path}" for path in ("/", "/callback", "/ticketgate")],
            "grant_types": ["authorization_code", "refresh_token", DEVICE],
            "response_types": ["code"], "application_type": "native",
        }
        app = {"redirect_uris": [], "response_types": [], "grant_types": ["client_credentials"]}
        return [
            {"client_id": self.client, "client_secret": self.secret, "token_endpoint_auth_method": "client_secret_basic", **people},
            {"client_id": self.app, "client_secret": self.app_secret, "token_endpoint_auth_method": "client_secret_basic", **app},
        ]

    def start(self):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: f"the provider listens:\n{self.log()}", self._answers, 20)
        return self

    def _answers(self):
        assert self.process.poll() is None, f"the provider ended:\n{self.log()}"
        try:
            return bool(self.asked())
        except OSError:
            return False

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def log(self):
        return self.log_file.read_text()[-3000:]

    def _hook(self, name, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.issuer}/_test/{name}", data, timeout=10) as answer:
            return json.loads(answer.read())

    def fault(self, count=1, status=None, error=None, description=None, retry_after=None, delay=None):
        """The next token requests are answered so; with a delay alone they are answered late. 0 ends it."""
        self._hook("fault", {"count": count, "status": status, "error": error, "description": description,
                             "retryAfter": retry_after, "delay": delay})

    def revoke(self, account, keep_access=False):
        """Ends the grants of an account, and says how many there were."""
        return self._hook("revoke", {"account": account, "keepAccess": keep_access})["grants"]

    def grants_less(self, scopes):
        """People grant only these scopes from now on."""
        self._hook("less", {"scopes": scopes})

    def asked(self):
        """How many token requests came: `token`, `grants` by kind, `errors`, `refreshed`, `reused`."""
        return self._hook("asked")

    def secrets(self):
        """All tokens and codes that were ever issued, by kind."""
        return self._hook("secrets")
