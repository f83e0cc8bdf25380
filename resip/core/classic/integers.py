"""
The packed integers of the classic dialect: big-endian, as few bytes as hold them.
"""

from __future__ import annotations

from resip.core.errors import ProtocolError


def packed_size(value: int) -> int:
    """
    How many bytes ``value`` takes, at least 1.

    :param value: 0 or more.
    """
    return (value.bit_length() + 7) // 8 or 1


def pack(value: int) -> bytes:
    """
    ``value`` big-endian in as few bytes as hold it.

    :param value: 0 or more.
    """
    return value.to_bytes(packed_size(value))


class Reader:
    """
    Takes bytes and integers off the front of a message, for parsers of commands.

    :ivar position: how many bytes were taken.
    """

    __slots__ = ("_data", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def remaining(self) -> int:
        """
        How many bytes are left.
        """
        return len(self._data) - self.position

    def take(self, size: int) -> bytes:
        """
        The next ``size`` bytes.

        :raises ProtocolError: when there are fewer.
        """
        if size > self.remaining:
            raise ProtocolError(f"{size} bytes wanted at {self.position}, {self.remaining} there")
        self.position += size
        return self._data[self.position - size : self.position]

    def integer(self, size: int) -> int:
        """
        The next ``size`` bytes as an integer; leading zeros are accepted.

        :raises ProtocolError: when there are fewer.
        """
        return int.from_bytes(self.take(size))
