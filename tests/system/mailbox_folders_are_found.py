"""Where a mailbox has its folders, and what came and went in it between two looks, with a Dovecot that tells."""

from harness.mailboxes import USER, MailboxCase, mail
from harness.wait import until

# All folders of a person lie below the inbox, as many servers had it for long.
BELOW = """
namespace inbox {
  prefix = INBOX.
  separator = .
}
"""


class Folders(MailboxCase):
    dovecot_more = BELOW

    def named(self):
        client = self.dovecot.client(USER)
        _, lines = client.list()
        client.logout()
        return {line.decode().rpartition(" ")[2].strip('"') for line in lines if line}

    def holds(self, folder):
        """How many mails are in a folder."""
        client = self.dovecot.client(USER)
        status, data = client.select(folder, readonly=True)
        client.logout()
        return int(data[0]) if status == "OK" else None

    def test_folders_are_found_in_the_persons_own_namespace(self):
        self.dovecot.put(USER, [mail("before")])
        client = self.dovecot.client(USER)
        client.create("INBOX.Done")
        client.create("INBOX.Support")
        client.append("INBOX.Support", None, None, mail("early"))
        client.logout()
        self.ticketgate(folder="Support", move_to="Done")
        self.connected()
        client = self.dovecot.client(USER)
        client.append("INBOX.Support", None, None, mail("new"))
        client.logout()
        self.each_once(["new"])
        until(lambda: f"it is moved: {self.holds('INBOX.Done')}", lambda: self.holds("INBOX.Done") == 1, 20)
        self.assertEqual(self.holds("INBOX.Support"), 1)
        self.assertEqual(self.named(), {"INBOX", "INBOX.Done", "INBOX.Support", "INBOX.TicketgateLease"})
        self.assertEqual(self.holds("INBOX.TicketgateLease"), 1)
        self.assertEqual(self.connection()["warnings"], [])

    def test_a_folder_that_is_not_there_is_told_and_found_once_it_is(self):
        self.dovecot.put(USER, [mail("before")])
        self.ticketgate(folder="Support", retry_most="2s")
        problem = self.problem("folder_missing")
        self.assertIn("Support", problem["said"])
        client = self.dovecot.client(USER)
        client.create("INBOX.Support")
        client.logout()
        self.connected()

    def test_what_comes_and_goes_while_nobody_looks_is_counted(self):
        self.dovecot.put(USER, [mail("before")])
        self.ticketgate()
        self.connected()
        self.told("channels", "pause", USER)
        until(lambda: f"it is paused: {self.connection()}", lambda: self.connection()["state"] == "paused")
        self.dovecot.put(USER, [mail("gone1"), mail("gone2")])
        client = self.dovecot.client(USER)
        client.store("2:3", "+FLAGS", "(\\Deleted)")
        client.expunge()
        client.logout()
        self.dovecot.put(USER, [mail("stays")])
        self.told("channels", "resume", USER)
        self.each_once(["stays"])
        until(lambda: "they are counted", lambda: self.told("channels", "show", USER)["mailbox"]["vanished"] == 2, 20)
        shown = self.gate.command("channels", "show", USER).stdout
        self.assertIn("at most 2, between two looks", shown)
