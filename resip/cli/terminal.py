"""
What a command says while it works, on standard error.
"""

from __future__ import annotations

import shutil
from typing import TextIO

from twisted.logger import LogEvent, LogLevel, formatEvent


class Terminal:
    """
    Lines that stay, and on a terminal one below them that changes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._is_shown = False

    def say(self, text: str) -> None:
        """
        A line that stays.
        """
        self.clear()
        self._stream.write(f"resip: {text}\n")
        self._stream.flush()

    def show(self, text: str) -> None:
        """
        What takes the place of what was shown before; nothing where no terminal is.
        """
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{text[:width]}\x1b[K")
            self._stream.flush()
            self._is_shown = True

    def clear(self) -> None:
        """
        Nothing is shown any more.
        """
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown = False

    def observe(self, event: LogEvent) -> None:
        """
        Say what our own code warns of, and every traceback.
        """
        level = event.get("log_level", LogLevel.info)
        is_ours = str(event.get("log_namespace", "")).startswith("resip.")
        if level >= LogLevel.critical or (is_ours and level >= LogLevel.warn):
            self.say(formatEvent(event))
            if "log_failure" in event:
                self._stream.write(event["log_failure"].getTraceback())
