"""Programs that fetch a mailbox, each into a directory of its own, over TLS with the same private authority. All leave
the mail on the server."""

import contextlib
import os
import resource
import shutil
import subprocess
import time

from harness.daemon import Daemon
from harness.wait import until
from servers import Unavailable
from watching import Watch


# The longest that a program may take; what it has by then is what it is judged by.
LONGEST = 180


class Peer:
    """A program that is started, fetches everything, and ends."""

    program = package = None
    # The user that it runs as, where it does not want to be root.
    runs_as = {}

    def __init__(self, folder, dovecot, user):
        if not shutil.which(self.program):
            raise Unavailable(f"Debian's package {self.package} is not installed")
        self.folder, self.dovecot, self.user = folder, dovecot, user
        self.setup()

    def fetch(self, count):
        """Seconds and costs of fetching `count` mails."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        with open(self.folder / "said", "wb") as said:
            process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=self.folder,
                env=os.environ | {"HOME": str(self.folder)}, **self.runs_as,
            )
            watch = Watch(process.pid)
            # Once waited for, its processor time is in this process's account.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LONGEST)
            process.kill()
            status = process.wait()
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        watch.over.set()
        got = self.got()
        if got != count:
            said = (self.folder / "said").read_text(errors="replace").strip().splitlines()[-1:]
            print(f"  {self.program} ended with {status} and {got} of {count} mails, which its rate counts: {' '.join(said)[:200]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": seconds, "mails": got, "cpu_per_1000": cpu / max(got, 1) * 1000, "load_mb": watch.most}

    def stop(self):
        pass


class Mbsync(Peer):
    program, package = "mbsync", "isync"

    def setup(self):
        (self.folder / "box").mkdir()
        (self.folder / "rc").write_text(f"""
IMAPAccount it
Host localhost
Port {self.dovecot.imaps}
User {self.user}
Pass {self.dovecot.password}
SSLType IMAPS
CertificateFile {self.dovecot.certificate}

IMAPStore far
Account it

MaildirStore near
Path {self.folder}/box/
Inbox {self.folder}/box/in

Channel all
Far :far:
Near :near:
Sync PullNew
Create Near
SyncState *
""")

    def command(self):
        return [self.program, "-c", self.folder / "rc", "-q", "all"]

    def got(self):
        return sum(1 for _ in self.folder.glob("box/in/[nc]*/*"))


class Getmail(Peer):
    program, package = "getmail", "getmail6"
    runs_as = {"user": 65534, "group": 65534, "extra_groups": []}

    def setup(self):
        for part in ("box/new", "box/cur", "box/tmp"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "rc").write_text(f"""
[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = {self.dovecot.imaps}
username = {self.user}
password = {self.dovecot.password}
ca_certs = {self.dovecot.certificate}
[destination]
type = Maildir
path = {self.folder}/box/
[options]
delete = false
verbose = 0
""")
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, 65534, 65534)

    def command(self):
        return [self.program, "--getmaildir", self.folder, "--rcfile", "rc"]

    def got(self):
        return len(os.listdir(self.folder / "box" / "new"))


class Fetchmail(Peer):
    """Into one file of batched SMTP, the least that it can do with mail."""

    program = package = "fetchmail"

    def setup(self):
        rc = self.folder / "rc"
        rc.write_text(f"""
poll localhost protocol IMAP port {self.dovecot.imaps}
  user "{self.user}" password "{self.dovecot.password}" keep fetchall
  ssl sslcertck sslcertfile "{self.dovecot.certificate}"
  bsmtp "{self.folder}/mails"
""")
        rc.chmod(0o600)

    def command(self):
        return [self.program, "-f", self.folder / "rc", "--pidfile", self.folder / "pid", "--idfile", self.folder / "ids", "--silent"]

    def got(self):
        with open(self.folder / "mails", "rb") as mails:
            return sum(line.startswith(b"MAIL FROM:") for line in mails)


class Ticketgate:
    """The daemon, from the order to look on: until all is filed as entries of tickets, and labelled on the server."""

    def __init__(self, folder, dovecot, user):
        self.folder, self.dovecot, self.user = folder, dovecot, user
        secret = folder / "password"
        secret.write_text(dovecot.password)
        source = {"host": "localhost", "port": dovecot.imaps, "user": user, "password_file": str(secret),
                  "ca_file": str(dovecot.certificate), "mails_per_minute": 0}
        channel = {"address": "support@localhost", "name": "Support", "queue": "Support", "source": source}
        # The store as it is by default; the tests' small segments are not what people run.
        store = {"segment_bytes": None, "low_water_bytes": None, "ballast_bytes": None}
        self.daemon = Daemon(folder, {"channel": [channel], "store": store, "log": {"level": "warn"}}).start()

    def connect(self):
        """Connects to the mailbox while it is empty, for only what comes later is imported, and pauses."""
        until(lambda: f"connected\n{self.daemon.log()}", lambda: (self._connection() or {}).get("last_look"), 30)
        assert self.daemon.command("channels", "pause", "support@localhost").returncode == 0
        until("paused", lambda: self._connection()["state"] == "paused", 30)

    def _connection(self):
        return self.daemon.admin.get("/v1/channels")["channels"][0]["connection"]

    def _come(self, before):
        """Changes since then (an entry a mail, and two of the connection) and mails that wait to become one."""
        status = self.daemon.admin.get("/v1/status")
        return status["store"]["seq"] - before, status["spool"]["mails"]

    def fetch(self, count):
        before, _ = self._come(0)
        watch = Watch(self.daemon.process.pid)
        began = time.monotonic()
        assert self.daemon.command("channels", "resume", "support@localhost").returncode == 0
        until(lambda: f"all bodies are stored\n{self.daemon.log()}", lambda: sum(self._come(before)) >= count, 600, every=0.05)
        stored = time.monotonic() - began
        until("all is filed", lambda: self._come(before)[1] == 0, 600, every=0.05)
        filed = time.monotonic() - began
        until("all is labelled", self._labelled, 600, every=0.1)
        labelled = time.monotonic() - began
        figures = {"seconds": filed, "mails": count, "stored_seconds": stored, "labelled_seconds": labelled} | watch.end(count)
        names = [entry["message_id"] for entry in self.daemon.admin.each_entry()]
        assert len(names) == len(set(names)) == count, f"{len(names)} entries of {len(set(names))} mails, not {count}"
        return figures

    def _labelled(self):
        client = self.dovecot.client(self.user)
        _, without = client.uid("SEARCH", "OR", "UNKEYWORD", "Ticketgate", "UNSEEN")
        client.logout()
        return not without[0].split()

    def stop(self):
        self.daemon.stop(60)


FETCHING = {"ticketgate": Ticketgate, "mbsync": Mbsync, "getmail6": Getmail, "fetchmail": Fetchmail}
