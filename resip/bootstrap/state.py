"""
The state directory: where keys, certificates and invitations live between runs.

One directory serves both roles of one user. A server keeps ``ca.key``, ``ca.pem``,
``server.key``, ``server.pem``, ``keys.json``, ``server.json`` and ``local`` in it, a client
one file per joined server in ``servers/``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from resip.bootstrap.errors import StateError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

#: No file of ours comes near it; a larger one is not ours (bytes).
MAX_FILE_SIZE = 4 * 1024 * 1024

_LOCK_FILE = ".lock"


def default_state_directory(environ: Mapping[str, str], uid: int) -> Path:
    """
    Where the state lives unless the user says otherwise.

    ``$STATE_DIRECTORY`` (systemd sets it; the first, when it lists several), else
    ``/var/lib/resip`` for root, else ``$XDG_STATE_HOME/resip``, else
    ``~/.local/state/resip``.

    :raises StateError: when none of them can be told because ``$HOME`` is not set.
    """
    if from_systemd := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(from_systemd)
    if uid == 0:
        return Path("/var/lib/resip")
    xdg = environ.get("XDG_STATE_HOME", "")
    if xdg.startswith("/"):  # the specification says to ignore a relative one
        return Path(xdg) / "resip"
    if home := environ.get("HOME", ""):
        return Path(home) / ".local" / "state" / "resip"
    raise StateError("no state directory: HOME is not set; set it, or name one with --state")


@dataclass(frozen=True, slots=True)
class FileVersion:
    """
    Tells one content of a file from the next: every write makes a new inode.
    """

    modified_ns: int
    size: int
    inode: int


class StateDirectory:
    """
    Reads and writes small private files, each either whole or not at all.

    The directory is made at the first write, mode 0700, and its files are 0600. Modes that
    are too open are tightened where the file is ours; anybody else's file is refused. Root
    may work in another user's directory and leaves that user the owner of what it writes,
    so that ``sudo resip invite`` does not lock the service out of its own keys.

    :param path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """
        The directory.
        """
        return self._path

    def path_of(self, name: str) -> Path:
        """
        The full path of the file ``name``, for messages.
        """
        return self._path / name

    def exists(self, name: str) -> bool:
        """
        Whether there is a file ``name``.

        :raises StateError: when the directory may not be searched.
        """
        return self.version(name) is not None

    def version(self, name: str) -> FileVersion | None:
        """
        What changes whenever the file does; ``None`` when there is no such file.

        :raises StateError: when the directory may not be searched.
        """
        path = self.path_of(name)
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _read_error(path, error) from error
        return FileVersion(status.st_mtime_ns, status.st_size, status.st_ino)

    def read(self, name: str) -> bytes | None:
        """
        The content of the file ``name``; ``None`` when there is no such file.

        :raises StateError: when it cannot be read, belongs to somebody else, or is too large.
        """
        path = self.path_of(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _read_error(path, error) from error
        try:
            self._require_private(path, descriptor, stat.S_IFREG)
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_FILE_SIZE + 1)
        except OSError as error:
            raise _read_error(path, error) from error
        finally:
            os.close(descriptor)
        if len(content) > MAX_FILE_SIZE:
            raise StateError(f"{path} is larger than any file of resip: move it away")
        return content

    def write(self, name: str, content: bytes) -> None:
        """
        Replace the file ``name`` as a whole. After a failure, a kill or a power cut the old
        content is still there.

        :raises StateError: when it cannot be written.
        """
        path = self.path_of(name)
        try:
            self._make_directory(path.parent)
            _replace(path, content, owner=self._owner())
        except OSError as error:
            raise _write_error(path, error) from error

    def remove(self, name: str) -> None:
        """
        Remove the file ``name``; nothing happens when there is none.

        :raises StateError: when it cannot be removed.
        """
        path = self.path_of(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _write_error(path, error) from error

    def names(self, folder: str) -> list[str]:
        """
        The names of the files in ``folder``, sorted; empty when there is no such folder.

        :raises StateError: when it cannot be listed.
        """
        path = self.path_of(folder)
        try:
            return sorted(
                entry.name
                for entry in path.iterdir()
                if entry.is_file() and not entry.name.startswith(".")
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _read_error(path, error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other processes that also lock from changing anything meanwhile. Not reentrant.

        :raises StateError: when the lock file cannot be made.
        """
        path = self.path_of(_LOCK_FILE)
        try:
            self._make_directory(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise _write_error(path, error) from error
        try:
            try:
                _give_to(descriptor, self._owner())
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                raise _write_error(path, error) from error
            yield
        finally:
            os.close(descriptor)

    def _owner(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_uid, status.st_gid

    def _make_directory(self, path: Path) -> None:
        """
        Make ``path``, the directory or a folder in it, and see to its owner and mode.
        """
        if path != self._path:
            self._make_directory(self._path)
        created = not path.exists()
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if created and path != self._path:
                _give_to(descriptor, self._owner())
            self._require_private(path, descriptor, stat.S_IFDIR)
        finally:
            os.close(descriptor)

    def _require_private(self, path: Path, descriptor: int, kind: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_IFMT(status.st_mode) != kind:
            raise StateError(f"{path} is not a plain file: move it away")
        user = os.geteuid()
        if status.st_uid not in {user, self._owner()[0] if user == 0 else user}:
            raise StateError(
                f"{path} belongs to user {status.st_uid}, not to user {user}: "
                f"run resip as that user, or give it away with 'chown {user} {path}'"
            )
        if status.st_mode & 0o077:
            os.fchmod(descriptor, DIRECTORY_MODE if kind == stat.S_IFDIR else FILE_MODE)


def _replace(path: Path, content: bytes, *, owner: tuple[int, int]) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # mkstemp made it 0600
            _give_to(descriptor, owner)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _give_to(descriptor: int, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner[0]:
        os.fchown(descriptor, *owner)


def _read_error(path: Path, error: OSError) -> StateError:
    if error.errno in (errno.EACCES, errno.EPERM):
        cure = "run resip as the user who owns it, or name another directory with --state"
    else:
        cure = "check the file system, or name another directory with --state"
    return StateError(f"cannot read {path} ({error.strerror}): {cure}")


def _write_error(path: Path, error: OSError) -> StateError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cure = "run resip as a user who may write there, or name another directory with --state"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "free some space and try again; what was there before is unchanged"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        cure = "a file is where the directory should be: move it away, or name another with --state"
    else:
        cure = "check the file system, or name another directory with --state"
    return StateError(f"cannot write {path} ({error.strerror}): {cure}")
