"""A private Dovecot in a directory of its own: IMAP with and without TLS, mailboxes that are made by writing files."""

import imaplib
import os
import shutil
import subprocess
import time

from . import tls
from .settings import free_port, need, need_root
from .wait import until

CONF = """
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
mail_location = maildir:~/Maildir
first_valid_uid = 1
mail_max_userip_connections = 0
mail_fsync = never
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
  process_limit = 400
}}
service imap {{
  process_limit = 400
}}
{passdb}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={base}/mail/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
}}
{more}
"""

PASSWORD = """
passdb {{
  driver = static
  mechanisms = plain login
  args = password={password}
}}
"""

# Every token is asked about at the provider, and its owner must be the one who logs in.
TOKENS = """
passdb {{
  driver = oauth2
  mechanisms = {mechanisms}
  args = {base}/oauth2.conf
}}
"""

INTROSPECTION = """
introspection_url = http://dovecot:{secret}@127.0.0.1:{port}/token/introspection
introspection_mode = post
force_introspection = yes
username_attribute = username
active_attribute = active
active_value = true
"""


class Dovecot:
    """Any user name is a mailbox; all have one password. With a `provider`, its access tokens let in too."""

    password = "open-sesame"

    def __init__(self, place, more="", provider=None, mechanisms="xoauth2 oauthbearer"):
        need("dovecot")
        need_root("Dovecot gives its mailboxes to another user")
        self.base = place / "dovecot"
        self.base.mkdir()
        (self.base / "mail").mkdir()
        os.chown(self.base / "mail", 65534, 65534)
        self.certificate, key = tls.certificate(self.base, "imap")
        self.imap, self.imaps = free_port(), free_port()
        self.conf = self.base / "dovecot.conf"
        passdb, offered = PASSWORD.format(password=self.password), "plain login"
        if provider:
            (self.base / "oauth2.conf").write_text(INTROSPECTION.format(secret=provider.introspection_secret, port=provider.port))
            passdb, offered = TOKENS.format(base=self.base, mechanisms=mechanisms) + passdb, f"{mechanisms} {offered}"
        self.conf.write_text(CONF.format(
            base=self.base, certificate=self.certificate, key=key, imap=self.imap, imaps=self.imaps,
            mechanisms=offered, passdb=passdb, more=more,
        ))
        self.process = None

    def start(self):
        with open(self.base / "out", "ab") as out:
            self.process = subprocess.Popen(["dovecot", "-F", "-c", self.conf], stdout=out, stderr=out)
        until(lambda: f"Dovecot listens:\n{self.log()}", self._answers)
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def log(self):
        return "".join(p.read_text()[-2000:] for p in (self.base / "out", self.base / "dovecot.log") if p.exists())

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"Dovecot ended:\n{self.log()}")
        try:
            imaplib.IMAP4("127.0.0.1", self.imap, timeout=2).logout()
            return True
        except OSError:
            return False

    def client(self, user):
        """Another mail program on the same mailbox."""
        client = imaplib.IMAP4("127.0.0.1", self.imap, timeout=30)
        client.login(user, self.password)
        client.select("INBOX")
        return client

    def put(self, user, mails):
        """Puts mails into a mailbox, as if they had just arrived."""
        folder = self.base / "mail" / user / "Maildir"
        for part in ("new", "cur", "tmp"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for path in (folder.parent, folder, *(folder / part for part in ("new", "cur", "tmp"))):
            os.chown(path, 65534, 65534)
        stamp = time.time_ns()
        for index, mail in enumerate(mails):
            name = f"{stamp // 10**9}.M{stamp % 10**9}P{os.getpid()}Q{index:06}.host"
            # As a delivery agent does it: whole and owned before it can be seen.
            made = folder / "tmp" / name
            made.write_bytes(mail.replace(b"\r\n", b"\n"))
            os.chown(made, 65534, 65534)
            made.rename(folder / "new" / name)

    def flags(self, user):
        """The flags of all mails, as sets of lower-case words, by Message-ID."""
        client = self.client(user)
        found = {}
        _, data = client.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        for item in data:
            if isinstance(item, tuple):
                flags = {flag.decode().lower() for flag in imaplib.ParseFlags(item[0])}
                found[item[1].decode().split("<", 1)[-1].split(">")[0]] = flags
        client.logout()
        return found

    def renumber(self, user):
        """Lets the mailbox have a new UIDVALIDITY, as after a restore."""
        for name in ("dovecot-uidlist", "dovecot.index", "dovecot.index.log", "dovecot.index.cache", "dovecot-uidvalidity"):
            (self.base / "mail" / user / "Maildir" / name).unlink(missing_ok=True)
        for path in (self.base / "mail" / user / "Maildir").glob("dovecot-uidvalidity.*"):
            path.unlink()

    def forget(self, user):
        shutil.rmtree(self.base / "mail" / user, ignore_errors=True)
