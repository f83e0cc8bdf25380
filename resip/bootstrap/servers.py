"""
Which servers this user knows, and what a running server tells others of the same user.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from twisted.logger import Logger

from resip.bootstrap.certificates import ServerIdentity
from resip.bootstrap.errors import InvitationError, StateError
from resip.bootstrap.invitation import MAX_LENGTH, Invitation, parse_invitation
from resip.bootstrap.keystore import KeyStore, is_valid_name
from resip.bootstrap.state import StateDirectory
from resip.core.modern.handshake import derive_static_key
from resip.core.modern.noise import public_key_of

SERVER_FILE = "server.json"
LOCAL_FILE = "local"
SERVERS_FOLDER = "servers"

#: The name of the key that a server makes for clients of the same user on the same machine.
LOCAL_KEY = "local"

_log = Logger()


@dataclass(frozen=True, slots=True)
class ServerPorts:
    """
    Where a server listens, for ``resip invite`` to put into invitations.

    :ivar https_port: the session API.
    :ivar port: the carriers, UDP and TCP.
    :ivar started: Unix seconds; the identity of the run.
    """

    https_port: int
    port: int
    started: int


def write_server_ports(state: StateDirectory, ports: ServerPorts) -> None:
    """
    Leave a note of where the server listens.

    :raises StateError: when it cannot be written.
    """
    state.write(SERVER_FILE, json.dumps(asdict(ports)).encode("ascii") + b"\n")


def read_server_ports(state: StateDirectory) -> ServerPorts | None:
    """
    Where the server listens or last listened, ``None`` when none ever did.

    :raises StateError: when the note is damaged.
    """
    content = state.read(SERVER_FILE)
    if content is None:
        return None
    try:
        fields = json.loads(content)
        ports = ServerPorts(fields["https_port"], fields["port"], fields["started"])
    except (ValueError, KeyError, TypeError, RecursionError):
        ports = ServerPorts(0, 0, 0)
    if not (_is_port(ports.https_port) and _is_port(ports.port)):
        raise StateError(
            f"{state.path_of(SERVER_FILE)} is damaged: restart the server, it writes it anew"
        )
    return ports


def write_local_invitation(
    state: StateDirectory,
    keystore: KeyStore,
    identity: ServerIdentity,
    *,
    server_key: bytes,
    https_port: int,
    port: int,
) -> Invitation:
    """
    Leave an invitation for clients of the same user on this machine, who then need no join.

    The key ``local`` is minted when the store has no key yet, or when the invitation is
    missing, damaged or holds another secret than the store knows; an older key of that name
    then ends, and the new one may reach the same targets. Otherwise the secret stays and only
    ports, pin and server key are brought up to date, also when the operator revoked the key on
    purpose.

    :param server_key: the server's public key of the modern dialect, 32 bytes.
    :return: the invitation.
    :raises StateError: when it cannot be written.
    :raises KeyStoreError: when the key cannot be minted.
    """
    secret = _kept_secret(state, keystore)
    if secret is None:
        old = keystore.get(LOCAL_KEY)
        if old is not None:
            keystore.revoke(LOCAL_KEY)
        secret = keystore.add(LOCAL_KEY, None if old is None else old.allow)
    invitation = Invitation(
        host="127.0.0.1",
        https_port=https_port,
        port=port,
        name=LOCAL_KEY,
        pin=identity.pin,
        secret=secret,
        server_key=server_key,
    )
    state.write(LOCAL_FILE, _line(invitation))
    return invitation


def store_invitation(
    state: StateDirectory, name: str, invitation: Invitation, *, replace: bool = False
) -> None:
    """
    Join a server: keep its invitation under ``name``.

    :param replace: whether an older one of that name may be overwritten.
    :raises InvitationError: when the name is taken or not valid.
    :raises StateError: when it cannot be written.
    """
    if not is_valid_name(name):
        raise InvitationError(
            f"{name!r} is not a name for a server: give one of 1 to 64 letters, digits, dots, "
            "dashes and underscores, not a dot first"
        )
    with state.locked():
        if not replace and state.exists(_file_of(name)):
            raise InvitationError(
                f"there is a server {name!r} already: choose another name, or overwrite it with "
                "--replace"
            )
        state.write(_file_of(name), _line(invitation))


def find_invitation(server: str | None, state: StateDirectory) -> Invitation:
    """
    The invitation that a client shall use.

    :param server: the name of a joined server, or ``local``, or the path of a file that holds
        an invitation; ``None`` for the server of the same user on this machine, or else the
        only joined one.
    :raises InvitationError: when there is none, or no telling which, or it is damaged.
    :raises StateError: when it cannot be read.
    """
    if server is not None:
        return _find_named(server, state)
    if state.exists(LOCAL_FILE):
        return _read(state, LOCAL_FILE)
    names = state.names(SERVERS_FOLDER)
    if not names:
        raise InvitationError(
            f"no server is known in {state.path}: run 'resip join' with an invitation, or start "
            "a server on this machine first"
        )
    if len(names) > 1:
        raise InvitationError(f"several servers are known: choose with --server {'|'.join(names)}")
    return _read(state, _file_of(names[0]))


def _find_named(server: str, state: StateDirectory) -> Invitation:
    if is_valid_name(server):
        if state.exists(_file_of(server)):
            return _read(state, _file_of(server))
        if server == LOCAL_FILE and state.exists(LOCAL_FILE):
            return _read(state, LOCAL_FILE)
    path = Path(server)
    if os.sep in server or path.is_file():
        return read_invitation_file(path)
    names = state.names(SERVERS_FOLDER)
    known = f"known are {', '.join(names)}" if names else "none is known"
    raise InvitationError(
        f"no server {server!r} ({known} in {state.path}) and no file of that name: run "
        "'resip join' with an invitation"
    )


def read_invitation_file(path: Path) -> Invitation:
    """
    The invitation in a file that a user names.

    :raises InvitationError: when it cannot be read or holds none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(4 * MAX_LENGTH)
    except OSError as error:
        raise InvitationError(
            f"cannot read {path} ({error.strerror}): name a file that holds an invitation"
        ) from error
    return _parse(content, str(path))


def _read(state: StateDirectory, name: str) -> Invitation:
    return _parse(state.read(name) or b"", str(state.path_of(name)))


def _parse(content: bytes, path: str) -> Invitation:
    try:
        return parse_invitation(content.decode("utf-8", "replace"))
    except InvitationError as error:
        raise InvitationError(f"{path}: {error}") from error


def _kept_secret(state: StateDirectory, keystore: KeyStore) -> bytes | None:
    """
    The secret of the local invitation that is there, unless a new one is needed.
    """
    if not keystore.names or not state.exists(LOCAL_FILE):
        return None
    try:
        secret = _read(state, LOCAL_FILE).secret
    except InvitationError:
        _log.warn("{path} was damaged and is replaced", path=str(state.path_of(LOCAL_FILE)))
        return None
    if secret is None:
        return None
    stored = keystore.get(LOCAL_KEY)
    # Not found, either, is a key that an earlier resip minted without a public key.
    public_key = public_key_of(derive_static_key(secret))
    if stored is not None and keystore.find_by_public_key(public_key) != stored:
        return None
    return secret


def _line(invitation: Invitation) -> bytes:
    return invitation.to_text().encode("ascii") + b"\n"


def _file_of(name: str) -> str:
    return f"{SERVERS_FOLDER}/{name}"


def _is_port(value: object) -> bool:
    return type(value) is int and 1 <= value <= 65535
