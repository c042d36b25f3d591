"""Runs pip install and shows how far it is: one line that is rewritten on a terminal, a line now and then elsewhere.

python bin/_install.py OPTIONS-OF-PIP-INSTALL…
"""

import re
import subprocess
import sys
import time

LINE_SECONDS = 15.0
COLLECTED = re.compile(
    r"(?:Collecting |Requirement already satisfied: |Processing (?:\S*/)?)([A-Za-z0-9._]+(?:-(?!\d)\w+)*)"
)
UNPACKING = "Installing collected packages: "
TITLE = "Installing packages, first start only"


class Display:
    """The line of progress, on standard error."""

    def __init__(self, stream):
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._shown = time.monotonic()

    def show(self, text):
        """Show how far the installation is."""
        now = time.monotonic()
        if self._is_terminal:
            print(f"\r\033[K{TITLE}: {text}", end="", file=self._stream, flush=True)
        elif now - self._shown >= LINE_SECONDS:
            self._shown = now
            print(f"{TITLE}: {text}", file=self._stream, flush=True)

    def end(self, text=""):
        """Show the outcome, and leave the line."""
        print(("\r\033[K" if self._is_terminal else "") + text, end="\n" if text else "", file=self._stream, flush=True)


def main(arguments):
    """Install, and return pip's exit status."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    pip = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, errors="replace")
    display, started, names, installed = Display(sys.stderr), time.monotonic(), set(), 0
    try:
        for line in pip.stdout:
            if found := COLLECTED.match(line):
                names.add(found[1].lower().replace("_", "-"))
                display.show(f"{len(names)} found, now {found[1]}")
            elif line.startswith(UNPACKING):
                installed = line.count(",") + 1
                display.show(f"unpacking {installed}")
        status = pip.wait()
    except KeyboardInterrupt:
        pip.wait()  # it has the signal, too
        status = 130
    done = status == 0 and installed
    count = f"{installed} package{'' if installed == 1 else 's'}"
    display.end(f"Installed {count} in {time.monotonic() - started:.0f} s." if done else "")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
