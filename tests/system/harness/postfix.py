"""A private Postfix in a directory of its own: forwarding, holding its queue, or delivering to a Maildir."""

import os
import shutil
import subprocess

from .settings import free_port, need, need_root
from .wait import until

MAIN = """
compatibility_level = 3.6
config_directory = {base}/etc
queue_directory = {base}/spool
data_directory = {base}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
sendmail_path = /usr/sbin/sendmail
newaliases_path = /usr/bin/newaliases
mailq_path = /usr/bin/mailq
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = gw.example.com
mydestination =
mynetworks = 127.0.0.0/8
local_transport = error:local disabled
alias_maps =
alias_database =
maillog_file = {base}/log/maillog
maillog_file_prefixes = /
disable_dns_lookups = yes
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = 60000000
mailbox_size_limit = 0
biff = no
default_process_limit = 110
smtputf8_enable = no
"""

# As a company's mail server that hands everything on; it tries again sooner than is usual.
FORWARDING = """
relayhost = [127.0.0.1]:{relay}
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
"""

# Takes mail and does nothing more with it.
HOLDING = """
smtpd_client_restrictions = static:HOLD
smtpd_recipient_restrictions = static:HOLD, permit
in_flow_delay = 0
"""

# Into a Maildir, for whom the role says.
INTO_MAILDIR = """
virtual_mailbox_base = {base}/mail
virtual_mailbox_limit = 0
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_transport = virtual
"""

# Into one Maildir, whoever it is for.
ONE_MAILDIR = INTO_MAILDIR + """
virtual_mailbox_maps = static:box/
"""

# Delivers everything to one Maildir, as fast as it can.
MAILDIR = ONE_MAILDIR + """
virtual_mailbox_domains = localhost
virtual_destination_concurrency_limit = 20
virtual_destination_recipient_limit = 1
in_flow_delay = 0
"""

# As a provider's server: hands everything on for those who log in over TLS, and changes nothing in their mail.
SMARTHOST = """
relayhost = [127.0.0.1]:{relay}
mynetworks =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{sasl}
smtpd_sasl_security_options = noanonymous
smtp_line_length_limit = 0
message_drop_headers =
local_header_rewrite_clients =
"""

# Delivers everything to one Maildir as it comes, for whatever domain.
FAR_END = ONE_MAILDIR + """
virtual_mailbox_domains = static:all
message_drop_headers =
local_header_rewrite_clients =
"""

# The same with TLS for those who want it.
FAR_END_TLS = FAR_END + """
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
"""

# As a smarthost that reports: one domain is its own, the servers of two others are on the ports `dead` and `slow`. What
# comes back goes to the port `gate`. It tells of a delay within seconds, and gives up after `patience`.
REPORTING = INTO_MAILDIR + """
virtual_mailbox_domains = far.example
virtual_mailbox_maps = inline:{{ {{alice@far.example = box/}}, {{carol@far.example = box/}} }}
virtual_alias_maps = inline:{{ {{info@far.example = gone@dead.example}} }}
transport_maps = inline:{{ {{localhost = smtp:[127.0.0.1]:{gate}}},
  {{dead.example = smtp:[127.0.0.1]:{dead}}}, {{slow.example = smtp:[127.0.0.1]:{slow}}} }}
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
delay_warning_time = 1s
maximal_queue_lifetime = {patience}
bounce_queue_lifetime = {patience}
"""

# As a smarthost that spoils header fields by the file `checks`: mail for `domain` goes by the transport `home`, mail for
# far.example into its Maildir.
SPOILING = ONE_MAILDIR + """
virtual_mailbox_domains = far.example
transport_maps = inline:{{ {{{domain} = {home}}} }}
header_checks = regexp:{checks}
message_drop_headers =
local_header_rewrite_clients =
"""

MASTER = """
127.0.0.1:{port} inet n - n - 110 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Takes mail on `port`; `role` is one of the texts above, `relay` the port that a forwarding one hands on to."""

    def __init__(self, place, role, relay=None, name="postfix", **more):
        """`more` fills in what else stands in the role. A smarthost has a second port, `wrapped`, which begins with TLS."""
        need_root("Postfix starts as root")
        need("postfix")
        self.base, self.port = place / name, free_port()
        for folder in ("etc", "spool", "data", "log", "mail"):
            (self.base / folder).mkdir(parents=True)
        shutil.chown(self.base / "data", "postfix")
        os.chown(self.base / "mail", 65534, 65534)
        main = (MAIN + role).format(base=self.base, relay=relay, **more)
        (self.base / "etc" / "main.cf").write_text(main)
        master = MASTER.format(port=self.port)
        self.wrapped = free_port() if role is SMARTHOST else None
        if self.wrapped:
            master += f"127.0.0.1:{self.wrapped} inet n - n - 20 smtpd\n  -o smtpd_tls_wrappermode=yes\n"
        (self.base / "etc" / "master.cf").write_text(master)

    def _control(self, word):
        return subprocess.run(
            ["postfix", "-c", self.base / "etc", word], capture_output=True, text=True,
            env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
        )

    def start(self):
        done = self._control("start")
        assert done.returncode == 0, f"postfix start: {done.stderr}{self.log()}"
        return self

    def pid(self):
        """Of its master process, the parent of all others."""
        return int((self.base / "spool" / "pid" / "master.pid").read_text())

    def stop(self):
        self._control("stop")

    def arrived(self):
        """The mails that it has delivered to its Maildir, the oldest first."""
        files = [file for part in ("new", "cur") for file in (self.base / "mail" / "box" / part).glob("*")]
        return [file.read_bytes() for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name))]

    def log(self):
        file = self.base / "log" / "maillog"
        return file.read_text(errors="replace") if file.exists() else ""

    def flush(self):
        """Tries everything in its queue again now."""
        subprocess.run(["/usr/sbin/postqueue", "-c", self.base / "etc", "-f"], check=True, capture_output=True)

    def queued(self):
        """How many mails it still holds."""
        folders = ("incoming", "active", "deferred", "maildrop")
        return sum(len(files) for folder in folders for _, _, files in os.walk(self.base / "spool" / folder))

    def logged(self, text, count=1, seconds=30):
        until(lambda: f"Postfix logs {text!r}\n{self.log()[-3000:]}", lambda: self.log().count(text) >= count, seconds)
