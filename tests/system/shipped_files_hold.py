"""The configurations that we ship are accepted by the daemon, and a wrong one is refused with all its faults."""

import re
import subprocess

from harness.case import Case
from harness.settings import BINARY, ROOT


class ShippedFiles(Case):
    def check(self, file):
        return subprocess.run([BINARY, "check", "--config", file], capture_output=True, text=True, timeout=30)

    def test_shipped_configurations_are_right(self):
        files = sorted((ROOT / "config").glob("*.toml"))
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            with self.subTest(file.name):
                done = self.check(file)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_faults_are_told_at_once(self):
        file = self.place / "wrong.toml"
        file.write_text('[server]\nhostnam = "x"\n\n[[channel]]\naddress = "not an address"\n')
        done = self.check(file)
        self.assertEqual(done.returncode, 1)
        told = done.stdout + done.stderr
        for word in ("hostnam", "hostname", "2", "not an address", "5"):
            self.assertIn(word, told)

    def test_the_binary_documents_itself(self):
        for arguments, word in ((("--help",), "demo"), (("man",), ".TH"), (("completions", "bash"), "complete"), (("--version",), "ticketgate")):
            with self.subTest(arguments):
                done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=30)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(word, done.stdout)

    def help(self, *words):
        done = subprocess.run([BINARY, *words, "--help"], capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else ""

    def test_commands_of_the_documents_exist(self):
        seen = {}
        for file in [ROOT / "README.md", ROOT / "config/ticketgate.toml", *sorted((ROOT / "docs").glob("*.md"))]:
            text = file.read_text()
            # In running text between backticks, over a line end too; and on a line of its own in a block.
            blocks = "".join(re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S))
            for told in re.findall(r"`ticketgate ([^`]+)`", text) + re.findall(r"^\$? ?ticketgate (.+)$", blocks, re.M):
                seen.setdefault(" ".join(told.partition("#")[0].split()), file.name)
        self.assertGreater(len(seen), 60, "the documents name commands")
        for told, file in seen.items():
            with self.subTest(told, file=file):
                words = told.split()
                subcommand = words[:1]
                page = self.help(*subcommand)
                self.assertTrue(page, "there is no such command")
                if "\nCommands:" in page:
                    # Where several are named at once, as in `hold|release`, or none: "see `ticketgate loops`".
                    for second in words[1].split("|") if len(words) > 1 else []:
                        self.assertRegex(page, rf"(?m)^  {re.escape(second)} ", "there is no such subcommand")
                        inner = self.help(*subcommand, second)
                        for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", told):
                            self.assertIn(option, inner, "there is no such option")
                else:
                    for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", told):
                        self.assertIn(option, page, "there is no such option")
