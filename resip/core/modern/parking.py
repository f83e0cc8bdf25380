"""
Idle sessions folded up: half a kilobyte for what takes twenty as objects.

The objects below a session are written with :mod:`pickle` and deflated. The dictionary is what an
earlier session made of them, so that of the names of classes and fields, which are most of it, next
to nothing remains. All that a session has learnt survives, and a new field of some class needs no
code here.

What is folded never leaves the process, and nothing from outside is ever unfolded.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zlib
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Protocol

from resip.core.modern.configuration import ModernConfiguration
from resip.core.trace import Trace

#: Deflate without a header, in a window that the objects of one session fit into.
_WINDOW_BITS = -14
_LEVEL = 6
#: A dictionary is good while what it leaves is less than this share.
_GOOD_SHARE = 1 / 12
#: Dictionaries that a process learns; each is as large as a session written down.
MAX_DICTIONARIES = 16


class Outside:
    """
    Base of what a session refers to and does not own.
    """

    __slots__ = ()


#: What all sessions share, or what leads out of a session: it is kept, not written.
_OUTSIDE = (Outside, FunctionType, BuiltinFunctionType, ModernConfiguration, Trace)


class Folded:
    """
    Objects that were folded up, and those outside that they refer to.
    """

    __slots__ = ("_data", "_dictionary", "_kept")

    def __init__(self, data: bytes, dictionary: bytes, kept: tuple[object, ...]) -> None:
        self._data = data
        self._dictionary = dictionary
        self._kept = kept

    def __len__(self) -> int:
        """
        Bytes, without the dictionary and what is outside.
        """
        return len(self._data)

    def unfold(self) -> object:
        """
        The objects as they were.
        """
        inflater = zlib.decompressobj(_WINDOW_BITS, zdict=self._dictionary)
        return _Reader(inflater.decompress(self._data), self._kept).load()


class Folder:
    """
    Folds objects up, all those that are alike with one dictionary.
    """

    def __init__(self) -> None:
        self._dictionary = b""
        self._learnt = 0

    def fold(self, objects: object, owner: object) -> Folded:
        """
        Write objects down. They are not changed.

        :param owner: whom they call back; not one of them.
        """
        written, kept = _write(objects, owner)
        data = self._deflate(written)
        if len(data) > _GOOD_SHARE * len(written) and self._learnt < MAX_DICTIONARIES:
            self._learnt += 1
            self._dictionary = _without_secrets(written)
            data = self._deflate(written)
        return Folded(data, self._dictionary, kept)

    def _deflate(self, written: bytes) -> bytes:
        deflater = zlib.compressobj(
            _LEVEL, zlib.DEFLATED, _WINDOW_BITS, zlib.DEF_MEM_LEVEL, zdict=self._dictionary
        )
        return deflater.compress(written) + deflater.flush()


class _Table(Protocol):
    def __len__(self) -> int: ...

    def clear(self) -> None: ...


def release_room(*tables: _Table) -> None:
    """
    An empty dict keeps the room of what it once held. Let it go.
    """
    for table in tables:
        if not table:
            table.clear()


def _without_secrets(written: bytes) -> bytes:
    # A dictionary outlives its session, whose keys must not: all bytes become zeros.
    blank = written
    for _, argument, _ in pickletools.genops(written):
        if isinstance(argument, bytes):
            blank = blank.replace(argument, bytes(len(argument)))
    return blank


def _write(objects: object, owner: object) -> tuple[bytes, tuple[object, ...]]:
    file = io.BytesIO()
    writer = _Writer(file, owner)
    writer.dump(objects)
    return file.getvalue(), tuple(writer.kept)


class _Writer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, owner: object) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._owner = owner
        self.kept: list[object] = []

    def persistent_id(self, obj: object) -> int | None:
        if not (isinstance(obj, _OUTSIDE) or self._calls_back(obj)):
            return None
        for at, known in enumerate(self.kept):
            if known is obj:
                return at
        self.kept.append(obj)
        return len(self.kept) - 1

    def _calls_back(self, obj: object) -> bool:
        if not isinstance(obj, MethodType):
            return False
        return obj.__self__ is self._owner or not _is_core(type(obj.__self__))


def _is_core(kind: type) -> bool:
    return kind.__module__.startswith("resip.core.")


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, kept: tuple[object, ...]) -> None:
        super().__init__(io.BytesIO(data))
        self._kept = kept

    def persistent_load(self, pid: int) -> object:
        return self._kept[pid]
