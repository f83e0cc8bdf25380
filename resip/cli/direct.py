"""
``resip keygen``, ``resip send`` and ``resip receive``.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred

from resip.bootstrap.state import DIRECTORY_MODE, default_state_directory
from resip.cli.running import run_to_end
from resip.cli.terminal import Terminal
from resip.core.types import RandomBytes
from resip.direct.destinations import StreamDestination
from resip.direct.errors import TransferError
from resip.direct.keys import (
    KEY_FILE,
    make_key,
    parse_public_key,
    public_text,
    read_key,
    write_key,
)
from resip.direct.messages import FailureCode
from resip.direct.names import printable
from resip.direct.sources import STREAM_NAME, FileSource, Source, StreamSource
from resip.services.direct_line import Address, Peer
from resip.services.direct_receiver import (
    DirectReceiver,
    ListenAddress,
    ReceiverConfiguration,
)
from resip.services.direct_sender import DirectSender
from resip.services.pipes import PipeReader, PipeWriter

_RANDOM: RandomBytes = os.urandom
Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_direct(subcommands: Subcommands) -> None:
    """
    Add the three commands.
    """
    _add_keygen(subcommands)
    _add_send(subcommands)
    _add_receive(subcommands)


def _add_keygen(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "keygen",
        help="make a key for send and receive",
        description="Make a key for 'resip send' and 'resip receive'. The private half goes to "
        "FILE, the public half is printed: give it to those you exchange files with.",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=f"where it is kept (default: {KEY_FILE} in the state directory)",
    )
    parser.set_defaults(run=keygen)


def _add_send(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "send",
        help="send a file to 'resip receive' on another machine",
        description="Send FILE, or standard input when it is -, to a 'resip receive' whose public "
        "key you have. Whatever happens to the network, it goes on; when one of the two programs "
        "was ended, start it again and it goes on, too.",
    )
    parser.add_argument("file", metavar="FILE", help="the file, or - for standard input")
    parser.add_argument(
        "--to",
        required=True,
        type=_address,
        metavar="ADDRESS",
        help="where the receiver listens: udp:host:port or tcp:host:port",
    )
    parser.add_argument("--peer", required=True, metavar="KEY", help="its public key")
    parser.add_argument("--name", metavar="NAME", help="what the receiver shall call it")
    _add_key(parser)
    parser.set_defaults(run=send)


def _add_receive(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "receive",
        help="receive files from 'resip send'",
        description="Receive what 'resip send' sends with one of the given keys. Nobody else gets "
        "an answer. An unfinished file has '.resip-part' behind its name, until the rest comes.",
    )
    parser.add_argument(
        "--listen",
        required=True,
        action="append",
        type=_listen_address,
        metavar="ADDRESS",
        help="udp:port, tcp:port or udp:address:port; may be repeated",
    )
    parser.add_argument(
        "--from",
        required=True,
        action="append",
        dest="peers",
        metavar="KEY",
        help="public key of a sender; may be repeated",
    )
    parser.add_argument(
        "--output",
        default=".",
        metavar="PATH",
        help="a directory, a file, or - for standard output (default: this directory)",
    )
    parser.add_argument("--overwrite", action="store_true", help="let files replace others")
    parser.add_argument("--once", action="store_true", help="end after the first file")
    _add_key(parser)
    parser.set_defaults(run=receive)


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        metavar="FILE",
        help=f"your private key (default: {KEY_FILE} in the state directory)",
    )


def keygen(options: argparse.Namespace) -> None:
    """
    ``resip keygen``: a private key into a file, its public half to standard output.

    :raises KeyFileError: when there is one already, or it cannot be written.
    """
    if options.out is None:
        path = _default_key_file()
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    else:
        path = Path(options.out)
    key = make_key(_RANDOM)
    write_key(path, key)
    print(public_text(key))
    Terminal(sys.stderr).say(
        f"the private half is in {path}; the line above is the public one, for your peers"
    )


def send(options: argparse.Namespace) -> None:
    """
    ``resip send``.

    :raises ResipError: when it is not sent.
    """
    terminal = Terminal(sys.stderr)
    key = _read_key(options)
    peer = Peer(options.to, key, parse_public_key(options.peer))
    source, descriptor = _open_source(options.file, options.name)

    async def work(reactor: Any) -> bytes:
        sender = DirectSender(
            reactor,
            peer,
            source,
            reporter=terminal,
            hint=_hint(peer),
            on_read=lambda: None if reader is None else reader.resume(),
            random_bytes=_RANDOM,
        )
        reader = None
        if descriptor is not None:
            assert isinstance(source, StreamSource), "only a stream is watched"
            reader = PipeReader(reactor, descriptor, source, sender.source_ready)
            reader.resume()
        try:
            return await sender.run()
        finally:
            if reader is not None:
                reader.stop()

    try:
        digest = run_to_end(work, terminal)
    finally:
        source.close()
    terminal.say(f"{printable(source.offer.name)} is there, SHA-256 {digest.hex()}")


def receive(options: argparse.Namespace) -> None:
    """
    ``resip receive``.

    :raises ResipError: when it cannot.
    """
    terminal = Terminal(sys.stderr)
    key = _read_key(options)
    configuration = ReceiverConfiguration(
        listen=options.listen,
        static_key=key,
        peers=[parse_public_key(peer) for peer in options.peers],
        output=None if options.output == "-" else _output(options.output),
        overwrite=options.overwrite,
        is_once=options.once,
    )

    async def work(reactor: Any) -> None:
        broken: Deferred[None] = Deferred()
        out = PipeWriter(
            reactor,
            sys.stdout.fileno(),
            on_drained=lambda: receiver.stream_drained(),
            on_lost=lambda error: broken.errback(_stdout_error(error)),
        )
        receiver = DirectReceiver(
            reactor,
            configuration,
            reporter=terminal,
            stream=StreamDestination(out.write, out.is_full),
            random_bytes=_RANDOM,
        )
        receiver.done.chainDeferred(broken)
        try:
            receiver.startService()
            for address, port in zip(configuration.listen, receiver.ports, strict=True):
                terminal.say(f"listening on {address.carrier} port {port} as {public_text(key)}")
            await broken
            await out.flushed()
        finally:
            await receiver.stopService()
            out.stop()

    run_to_end(work, terminal)


def _open_source(file: str, name: str | None) -> tuple[Source, int | None]:
    """
    The source, and the descriptor to read it from if it is a stream.
    """
    called = STREAM_NAME if file == "-" else os.fsencode(os.path.basename(file))
    called = called if name is None else os.fsencode(name)
    try:
        descriptor = os.dup(0) if file == "-" else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TransferError(
            f"cannot read {file} ({error.strerror}): name a file that you may read",
            FailureCode.READ_FAILED,
        ) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        os.close(descriptor)
        raise TransferError(
            f"{file} is a directory: send an archive of it, as in 'tar c {file} | resip send - "
            f"--name {Path(file).name}.tar'",
            FailureCode.READ_FAILED,
        )
    if stat.S_ISREG(mode):
        return FileSource(descriptor, called), None
    return StreamSource(called), descriptor


def _output(text: str) -> Path:
    path = Path(text)
    if not path.is_dir() and (text.endswith("/") or not path.parent.is_dir()):
        folder = path if text.endswith("/") else path.parent
        raise TransferError(f"there is no directory {folder}: make it", FailureCode.WRITE_FAILED)
    return path


def _read_key(options: argparse.Namespace) -> X25519PrivateKey:
    return read_key(_default_key_file() if options.key is None else Path(options.key))


def _default_key_file() -> Path:
    return default_state_directory(os.environ, os.getuid()) / KEY_FILE


def _hint(peer: Peer) -> str:
    address = peer.address
    return (
        f"no answer from {address} so far. Does 'resip receive' run there, with --listen "
        f"{address.carrier}:{address.port} and --from {public_text(peer.static_key)}? Is the key "
        f"of --peer the one that it prints? Does its firewall let {address.carrier.upper()} port "
        f"{address.port} in? Trying on"
    )


def _stdout_error(error: OSError) -> TransferError:
    return TransferError(
        f"cannot write standard output ({error.strerror or error})", FailureCode.WRITE_FAILED
    )


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _listen_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
