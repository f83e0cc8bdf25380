"""
What each subcommand of ``resip`` does. Results go to stdout, all else to stderr.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from twisted.internet import task
from twisted.internet.defer import Deferred

from resip.bootstrap.certificates import load
from resip.bootstrap.credentials import derive_api_key
from resip.bootstrap.errors import InvitationError, StateError
from resip.bootstrap.first_contact import FirstContact, fetch_first_contact
from resip.bootstrap.invitation import MAX_LENGTH, Invitation, is_valid_host, parse_invitation
from resip.bootstrap.keystore import KeyStore, is_valid_name
from resip.bootstrap.servers import (
    SERVERS_FOLDER,
    ServerPorts,
    read_invitation_file,
    read_server_ports,
    store_invitation,
)
from resip.bootstrap.state import StateDirectory, default_state_directory
from resip.bootstrap.static_key import load_static_key
from resip.cli.hostname import guess_host
from resip.core.errors import ResipError
from resip.core.modern.noise import public_key_of
from resip.services.retry import ask_clients_to_retry
from resip.tunnel.policy import parse_pattern

#: Names of keys that nobody named.
NUMBERED_PREFIX = "client"


def invite(options: argparse.Namespace) -> None:
    """
    ``resip invite`` and ``resip keys add``: mint a key and print what a client needs.

    :raises ResipError: when no server has run yet, or the key cannot be minted.
    :raises PolicyError: when a pattern is none.
    """
    state = _state(options)
    _check_patterns(options.allow)
    ports = _ports(state)
    identity = load(state)
    if identity is None:
        raise _no_server(state)
    server_key = None if options.classic else _server_key(state)
    host = _host(options.host)
    keystore = KeyStore(state)
    name = options.name
    if name is None:
        name, secret = keystore.add_numbered(NUMBERED_PREFIX, options.allow)
    else:
        secret = keystore.add(name, options.allow)
    if options.classic:
        print(f"host={host}\nhttps-port={ports.https_port}\nport={ports.port}")
        print(f"api-key={derive_api_key(secret)}")
        return
    invitation = Invitation(
        host=host,
        https_port=ports.https_port,
        port=ports.port,
        name=name,
        pin=identity.pin,
        secret=secret,
        server_key=server_key,
    )
    print(invitation.to_text())
    _hint(
        f"key {name!r} made; give the line to the client in private, it is shown only now. "
        f"There: resip join. To take it back: resip keys revoke {name}"
    )


def join(options: argparse.Namespace) -> None:
    """
    ``resip join``: keep an invitation, or an API key and the certificates seen now.

    :raises ResipError: when the invitation is none, or the server cannot be reached.
    """
    state = _state(options)
    if options.classic:
        name, invitation = options.name, _join_classic(options, state)
    else:
        name, invitation = _read_invitation(options)
    store_invitation(state, name, invitation, replace=options.replace)
    _hint(f"joined the server at {invitation.authority}, known here as {name!r}")


def keys_list(options: argparse.Namespace) -> None:
    """
    ``resip keys list``: one line per key, its name, when it was made and what it may reach.
    """
    for record in KeyStore(_state(options)).records():
        created = datetime.fromtimestamp(record.created, UTC)
        allow = "(the server's list)" if record.allow is None else " ".join(record.allow)
        print(f"{record.name}\t{created:%Y-%m-%d}\t{allow}")


def keys_revoke(options: argparse.Namespace) -> None:
    """
    ``resip keys revoke``: forget a key.

    :raises KeyStoreError: when there is no such key.
    """
    KeyStore(_state(options)).revoke(options.name)
    _hint(f"key {options.name!r} revoked")


def keys_allow(options: argparse.Namespace) -> None:
    """
    ``resip keys allow``: replace what a key may reach.

    :raises KeyStoreError: when there is no such key.
    :raises PolicyError: when a pattern is none.
    """
    patterns = None if options.server_list else options.patterns
    _check_patterns(patterns)
    KeyStore(_state(options)).set_allow(options.name, patterns)


def retry(options: argparse.Namespace) -> None:
    """
    ``resip retry``: have the running clients try now.

    :raises ResipError: when none runs, or one belongs to another user.
    """
    state = _state(options)
    count = ask_clients_to_retry(state)
    if not count:
        raise StateError(
            f"no client runs with the state directory {state.path}: start one with 'twistd "
            "resip-client', or name its directory with --state"
        )
    _hint(f"asked {count} client{'s' if count > 1 else ''} to try now")


def _state(options: argparse.Namespace) -> StateDirectory:
    path = options.state or default_state_directory(os.environ, os.getuid())
    return StateDirectory(Path(path))


def _ports(state: StateDirectory) -> ServerPorts:
    ports = read_server_ports(state)
    if ports is None:
        raise _no_server(state)
    return ports


def _server_key(state: StateDirectory) -> bytes:
    static_key = load_static_key(state)
    if static_key is None:
        raise StateError(
            f"the server of {state.path} has no key for the modern dialect yet: restart it, it "
            "makes one when it starts"
        )
    return public_key_of(static_key)


def _no_server(state: StateDirectory) -> StateError:
    return StateError(
        f"no server has run with this state directory yet ({state.path}): start it first with "
        "'twistd resip-server', or name its directory with --state"
    )


def _host(given: str | None) -> str:
    if given is None:
        host = guess_host()
        _hint(f"clients will look for the server at {host}; if that is wrong, say --host")
        return host
    host = given.removeprefix("[").removesuffix("]")
    if not is_valid_host(host):
        raise InvitationError(
            f"--host {given!r} is neither a host name nor an address: write the name alone, "
            "without port, an international one in its xn-- form"
        )
    return host


def _check_patterns(patterns: Iterable[str] | None) -> None:
    for pattern in patterns or ():
        parse_pattern(pattern)


def _read_invitation(options: argparse.Namespace) -> tuple[str, Invitation]:
    """
    From ``[NAME] [FILE]``, where a single word is a FILE if there is one or it has a slash.
    """
    name, file = options.name, options.file
    if file is None and name is not None and (os.sep in name or Path(name).is_file()):
        name, file = None, name
    if file is None or file == "-":
        if sys.stdin.isatty():
            _hint("paste the invitation, then Enter")
        invitation = parse_invitation(_read_line())
    else:
        invitation = read_invitation_file(Path(file))
    return name or _name_after(invitation.host), invitation


def _name_after(host: str) -> str:
    name = host.replace(":", "-")
    if not is_valid_name(name):
        raise InvitationError(f"{host!r} is too long a name for a server: give one, join NAME")
    return name


def _join_classic(options: argparse.Namespace, state: StateDirectory) -> Invitation:
    if not options.replace and state.exists(f"{SERVERS_FOLDER}/{options.name}"):
        raise InvitationError(
            f"there is a server {options.name!r} already: choose another name, or overwrite it "
            "with --replace"
        )
    host = _host(options.host)
    api_key = _read_api_key()
    contact = _look_at(host, options.https_port)
    invitation = Invitation(
        host=host,
        https_port=options.https_port,
        port=options.port,
        name=options.name,
        pin=contact.root_pin,
        classic_api_key=api_key,
        leaf_fingerprint=contact.leaf_fingerprint,
    )
    for line in contact.lines:
        _hint(line)
    _hint("compare with the server's own; from now on no other certificate is accepted")
    return invitation


def _read_api_key() -> str:
    if sys.stdin.isatty():
        key = getpass.getpass("API key (not shown): ", stream=sys.stderr)
    else:
        key = _read_line()
    if not key.strip():
        raise InvitationError("no API key: give it on standard input")
    return key.strip()


def _read_line() -> str:
    try:
        return sys.stdin.readline(2 * MAX_LENGTH)
    except UnicodeDecodeError as error:
        raise InvitationError("standard input is not text: give one line of it") from error


def _look_at(host: str, https_port: int) -> FirstContact:
    """
    Run the reactor for one first contact.
    """
    outcome: list[FirstContact | ResipError] = []

    async def look(reactor: object) -> None:
        try:
            outcome.append(await fetch_first_contact(reactor, host, https_port))
        except ResipError as error:
            outcome.append(error)

    try:
        task.react(lambda reactor: Deferred.fromCoroutine(look(reactor)))
    except SystemExit as end:  # how react always ends
        if not outcome:
            raise KeyboardInterrupt from end
    if isinstance(outcome[0], ResipError):
        raise outcome[0]
    return outcome[0]


def _hint(text: str) -> None:
    print(f"resip: {text}", file=sys.stderr)
