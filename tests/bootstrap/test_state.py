"""
Tests for :mod:`resip.bootstrap.state`.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap import state as state_module
from resip.bootstrap.errors import StateError
from resip.bootstrap.state import StateDirectory, default_state_directory

IS_ROOT = os.geteuid() == 0


def mode_of(path: Path) -> int:
    """
    The permission bits.
    """
    return stat.S_IMODE(path.stat().st_mode)


class DefaultStateDirectoryTests(SynchronousTestCase):
    """
    The places are tried in the documented order.
    """

    def test_systemd_comes_first(self) -> None:
        """
        $STATE_DIRECTORY wins for everybody; the first one counts.
        """
        environ = {"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}
        self.assertEqual(default_state_directory(environ, 0), Path("/a"))

    def test_root_uses_var_lib(self) -> None:
        """
        Root's state is the machine's.
        """
        self.assertEqual(default_state_directory({"HOME": "/root"}, 0), Path("/var/lib/resip"))

    def test_users_follow_xdg(self) -> None:
        """
        Users get $XDG_STATE_HOME when it is absolute, else its default below $HOME.
        """
        home = {"HOME": "/h"}
        self.assertEqual(
            default_state_directory({**home, "XDG_STATE_HOME": "/x"}, 7), Path("/x/resip")
        )
        for environ in (home, {**home, "XDG_STATE_HOME": "x"}):
            self.assertEqual(default_state_directory(environ, 7), Path("/h/.local/state/resip"))

    def test_no_home_is_an_error_with_a_cure(self) -> None:
        """
        Without any of them the user is told what to set.
        """
        with self.assertRaisesRegex(StateError, "--state"):
            default_state_directory({}, 7)


class StateDirectoryTests(SynchronousTestCase):
    """
    Files are private, and replaced whole or not at all.
    """

    def setUp(self) -> None:
        """
        A directory that does not exist yet.
        """
        self.path = Path(self.mktemp()).absolute() / "state"
        self.state = StateDirectory(self.path)

    def test_write_makes_private_directory_and_file(self) -> None:
        """
        Directory and folders are 0700, files 0600, and nothing temporary stays.
        """
        self.state.write("servers/alice", b"x")
        self.assertEqual(mode_of(self.path), 0o700)
        self.assertEqual(mode_of(self.path / "servers"), 0o700)
        self.assertEqual(mode_of(self.path / "servers" / "alice"), 0o600)
        self.assertEqual(os.listdir(self.path / "servers"), ["alice"])

    def test_read_gives_what_was_written(self) -> None:
        """
        A missing file is None, a written one its content, a removed one None again.
        """
        self.assertIsNone(self.state.read("f"))
        self.state.write("f", b"one")
        self.state.write("f", b"two")
        self.assertEqual(self.state.read("f"), b"two")
        self.state.remove("f")
        self.assertIsNone(self.state.read("f"))

    def test_open_modes_are_tightened(self) -> None:
        """
        A file or directory of ours that others may read is made private when it is used.
        """
        self.state.write("f", b"x")
        (self.path / "f").chmod(0o644)
        self.state.read("f")
        self.assertEqual(mode_of(self.path / "f"), 0o600)
        self.path.chmod(0o755)
        self.state.write("g", b"x")
        self.assertEqual(mode_of(self.path), 0o700)

    def test_full_disk_leaves_the_old_file(self) -> None:
        """
        When the disk is full, the error says so, and old content stays as it was.
        """
        self.state.write("f", b"old")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        cure = "f .*No space left.*free some space"
        with patch.object(os, "fsync", side_effect=full), self.assertRaisesRegex(StateError, cure):
            self.state.write("f", b"new")
        self.assertEqual(self.state.read("f"), b"old")
        self.assertEqual(os.listdir(self.path), ["f"])

    def test_kill_leaves_the_old_file(self) -> None:
        """
        A process that is killed before the rename leaves the old content.
        """
        self.state.write("f", b"old")
        script = (
            "import os, signal, sys; from pathlib import Path;"
            "from resip.bootstrap.state import StateDirectory;"
            "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
            "StateDirectory(Path(sys.argv[1])).write('f', b'new')"
        )
        done = subprocess.run([sys.executable, "-c", script, str(self.path)], check=False)
        self.assertEqual(done.returncode, -9)
        self.assertEqual(self.state.read("f"), b"old")

    def test_file_in_place_of_the_directory_is_named(self) -> None:
        """
        A file where the directory should be is an error that says so.
        """
        self.path.parent.mkdir()
        self.path.write_bytes(b"")
        with self.assertRaisesRegex(StateError, "a file is where the directory should be"):
            self.state.write("f", b"x")

    def test_directory_in_place_of_a_file_is_named(self) -> None:
        """
        A directory where a file should be is an error that says so.
        """
        (self.path / "f").mkdir(parents=True)
        with self.assertRaisesRegex(StateError, "not a plain file"):
            self.state.read("f")

    def test_file_beyond_the_limit_is_refused(self) -> None:
        """
        A file larger than any of ours is not read into memory.
        """
        self.patch(state_module, "MAX_FILE_SIZE", 3)
        self.state.write("f", b"1234")
        with self.assertRaisesRegex(StateError, "larger"):
            self.state.read("f")

    def test_version_changes_with_every_write(self) -> None:
        """
        Even the same content, written at once again, is another version.
        """
        self.assertIsNone(self.state.version("f"))
        self.state.write("f", b"x")
        first = self.state.version("f")
        self.state.write("f", b"x")
        self.assertNotEqual(self.state.version("f"), first)

    def test_names_are_sorted_and_without_temporary_ones(self) -> None:
        """
        A missing folder is empty; hidden files do not count.
        """
        self.assertEqual(self.state.names("servers"), [])
        for name in ("b", "a", ".hidden"):
            self.state.write(f"servers/{name}", b"")
        self.assertEqual(self.state.names("servers"), ["a", "b"])

    def test_lock_excludes_other_processes(self) -> None:
        """
        While the lock is held another process cannot take it; afterwards it can.
        """
        script = (
            "import fcntl, sys; f = open(sys.argv[1], 'r+');"
            "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        command = [sys.executable, "-c", script, str(self.path / ".lock")]
        with self.state.locked():
            inside = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
        after = subprocess.run(command, check=False)
        self.assertEqual((inside.returncode, after.returncode), (1, 0))

    @skipUnless(IS_ROOT, "only root can give files away")
    def test_root_leaves_the_owner_of_the_directory_in_charge(self) -> None:
        """
        What root writes into another user's directory belongs to that user.
        """
        self.state.write("f", b"x")
        os.chown(self.path, 4711, 4711)
        self.state.write("servers/g", b"x")
        with self.state.locked():
            pass
        for name in ("servers", "servers/g", ".lock"):
            self.assertEqual((self.path / name).stat().st_uid, 4711)

    @skipUnless(IS_ROOT, "only root can give files away")
    def test_file_of_a_stranger_is_refused(self) -> None:
        """
        A file that belongs neither to us nor to the directory's owner is not believed.
        """
        self.state.write("f", b"x")
        os.chown(self.path / "f", 4711, 4711)
        with self.assertRaisesRegex(StateError, "belongs to user 4711"):
            self.state.read("f")

    @skipUnless(IS_ROOT, "needs to become another user")
    def test_missing_permission_is_named_with_a_cure(self) -> None:
        """
        A user who may not read or write is told as whom to run.
        """
        self.state.write("f", b"x")
        script = (
            "import os, sys; from pathlib import Path;"
            "from resip.bootstrap.state import StateDirectory;"
            "from resip.bootstrap.errors import StateError;"
            "state = StateDirectory(Path(sys.argv[1])); os.setuid(4711);"
            "outcomes = []\n"
            "for attempt in (lambda: state.read('f'), lambda: state.write('f', b'y')):\n"
            "    try: attempt()\n"
            "    except StateError as error: outcomes.append(str(error))\n"
            "print(outcomes)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(self.path)], capture_output=True, check=True
        )
        self.assertEqual(done.stdout.count(b"Permission denied"), 2)
        self.assertEqual(done.stdout.count(b"--state"), 2)
