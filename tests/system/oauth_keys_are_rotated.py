"""The key of the secrets at rest is changed while tokens are renewed under it: nothing stops, no secret is lost."""

import threading
import time

from harness.mailboxes import USER, mail
from harness.oauth import OAuthCase
from harness.wait import until

TIMES = 3


class Rotated(OAuthCase):
    # Short, so that renewals and rotations meet.
    access_ttl = 6

    def keys(self):
        return self.told("secrets", "show")

    def brings(self, sent, name):
        """A new session logs in with what the secrets say, and brings this mail."""
        self.told("channels", "pause", USER)
        until("it pauses", lambda: self.connection()["state"] == "paused")
        self.told("channels", "resume", USER)
        self.connected()
        self.dovecot.put(USER, [mail(name)])
        sent.append(name)
        until(lambda: f"{name} is imported: {self.connection()}\n{self.gate.log()}", lambda: self.tickets() >= len(sent), 10)

    def test_keys_change_under_a_running_daemon_that_renews_its_tokens(self):
        self.gateway()
        self.consent()
        self.connected()
        sent, failed, before = [], self.failed_looks(), self.keys()
        self.assertEqual((len(before["keys"]), before["unreadable"]), (1, 0), before)
        for number in range(TIMES):
            # A renewal is under way when the key changes: its new refresh token has to come under a key that stays.
            asked = self.provider.asked()["token"]
            self.provider.fault(1, delay=300)
            until("a renewal begins", lambda asked=asked: self.provider.asked()["token"] > asked, 15, every=0.01)
            done = self.told("secrets", "rotate")
            self.assertTrue(done["added"] and done["secrets"] >= 1, done)
            self.brings(sent, f"k{number}")
        kept = self.keys()
        self.assertEqual((len(kept["keys"]), kept["unreadable"]), (1 + TIMES, 0), kept)
        self.assertEqual([key["secrets"] > 0 for key in kept["keys"]], [True] + [False] * TIMES, kept)
        self.assertEqual((self.failed_looks() - failed, self.provider.asked()["reused"], self.provider.asked()["errors"]), (0, 0, []))

        # A crash in the middle of it leaves every secret readable.
        rotating = threading.Thread(target=lambda: self.gate.command("secrets", "rotate"))
        rotating.start()
        time.sleep(0.02)
        self.gate.kill()
        rotating.join()
        self.gate.start()
        self.connected()
        self.assertEqual(self.keys()["unreadable"], 0)
        self.brings(sent, "after-the-crash")

        pruned = self.told("secrets", "rotate", "--prune")
        self.assertGreaterEqual(pruned["dropped"], TIMES, pruned)
        now = self.keys()
        self.assertEqual((len(now["keys"]), now["unreadable"]), (1, 0), now)
        self.assertNotIn(now["keys"][0]["id"], [key["id"] for key in kept["keys"]])
        self.gate.stop()
        self.gate.start()
        self.brings(sent, "under-the-last-key")
        self.each_once(sent)
        self.labelled(sent)
        self.report(f"{TIMES + 2} changes of the key, one of them killed: {len(sent)} mails in {len(sent)} sessions, no failed look")
