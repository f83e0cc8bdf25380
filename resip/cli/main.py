"""
The ``resip`` command: keys of a server, and the servers of a client.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from resip import __version__
from resip.cli import commands
from resip.cli.direct import add_direct
from resip.core.errors import ResipError
from resip.tunnel.policy import PolicyError

#: The ports of the published format.
DEFAULT_HTTPS_PORT = 31265
DEFAULT_PORT = 31266


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one subcommand.

    :param arguments: without the program's name; ``sys.argv`` when ``None``.
    :return: the exit status: 0 done, 1 failed and said why on stderr, 130 interrupted. Wrong
        usage exits with 2.
    """
    parser = _make_parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    try:
        options.run(options)
        sys.stdout.flush()
    except (ResipError, PolicyError) as error:
        print(f"resip: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _discard_stdout()
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resip",
        description="Invite clients to a resip server, and join servers. The server and the "
        "client themselves run as 'twistd resip-server' and 'twistd resip-client'.",
    )
    parser.add_argument("--version", action="version", version=f"resip {__version__}")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_invite(subcommands)
    _add_join(subcommands)
    _add_keys(subcommands)
    add_direct(subcommands)
    _add_retry(subcommands)
    return parser


Subparsers = argparse._SubParsersAction  # the only name that argparse has for it


def _add_invite(subcommands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "invite",
        help="make a key for one client and print its invitation",
        description="Make a key for one client and print its invitation: one line, to be given "
        "to 'resip join' on the client's machine. Whoever has the line can use the server.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="what to call the key (default: client-1, ...)"
    )
    _add_invite_options(parser)
    parser.add_argument(
        "--classic",
        action="store_true",
        help="print host, ports and API key one per line, for clients that know no invitations",
    )


def _add_invite_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", metavar="HOST", help="where clients find the server (default: a guess)"
    )
    parser.add_argument(
        "--allow",
        action="append",
        metavar="PATTERN",
        help="a target that this key may reach, instead of the server's list; may be repeated",
    )
    _add_state(parser)
    parser.set_defaults(run=commands.invite, classic=False)


def _add_join(subcommands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "join",
        help="keep the invitation to a server",
        description="Read an invitation from FILE or standard input and keep it, so that "
        "'twistd resip-client' finds the server. A single argument is a FILE if there is one of "
        "that name. With --classic, read an API key from standard input instead and remember "
        "the certificates that the server presents now.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="what to call the server (default: its host)"
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="holds the line (default: stdin)")
    parser.add_argument("--replace", action="store_true", help="overwrite a server of that name")
    parser.add_argument(
        "--classic", action="store_true", help="join a server that knows no invitations"
    )
    parser.add_argument("--host", metavar="HOST", help="with --classic: name or address")
    parser.add_argument(
        "--https-port",
        type=_port,
        metavar="PORT",
        help=f"with --classic: its session API (default: {DEFAULT_HTTPS_PORT})",
    )
    parser.add_argument(
        "--port",
        type=_port,
        metavar="PORT",
        help=f"with --classic: its packets (default: {DEFAULT_PORT})",
    )
    _add_state(parser)
    parser.set_defaults(run=commands.join, check=_check_join)


def _add_keys(subcommands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser("keys", help="list, add, revoke and limit the server's keys")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show all keys: name, date, targets")
    _add_state(listing)
    listing.set_defaults(run=commands.keys_list)
    adding = verbs.add_parser("add", help="make a key and print its invitation")
    adding.add_argument("name", metavar="NAME")
    _add_invite_options(adding)
    revoking = verbs.add_parser("revoke", help="forget a key")
    revoking.add_argument("name", metavar="NAME")
    _add_state(revoking)
    revoking.set_defaults(run=commands.keys_revoke)
    allowing = verbs.add_parser("allow", help="replace the targets that a key may reach")
    allowing.add_argument("name", metavar="NAME")
    allowing.add_argument("patterns", nargs="*", metavar="PATTERN")
    allowing.add_argument(
        "--server-list", action="store_true", help="go back to the server's own list"
    )
    _add_state(allowing)
    allowing.set_defaults(run=commands.keys_allow, check=_check_allow)


def _add_retry(subcommands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "retry",
        help="have the running clients try now",
        description="Tell the clients that run on this machine with this state directory to try "
        "every way to their servers now, instead of waiting for the next attempt. They notice "
        "most changes of the network by themselves.",
    )
    _add_state(parser)
    parser.set_defaults(run=commands.retry)


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="the state directory (default: $STATE_DIRECTORY, /var/lib/resip for root, or "
        "~/.local/state/resip)",
    )


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if "check" in options:
        options.check(parser, options)


def _check_join(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    given = [
        flag
        for flag, value in (
            ("--host", options.host),
            ("--https-port", options.https_port),
            ("--port", options.port),
        )
        if value is not None
    ]
    if not options.classic:
        if given:
            parser.error(f"{given[0]} needs --classic: an invitation says it already")
        return
    if options.name is None or options.host is None:
        parser.error("join --classic needs NAME and --host")
    if options.file is not None:
        parser.error("join --classic reads the API key from standard input, not from FILE")
    options.https_port = options.https_port or DEFAULT_HTTPS_PORT
    options.port = options.port or DEFAULT_PORT


def _check_allow(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if bool(options.patterns) == options.server_list:
        parser.error("keys allow needs either PATTERNs or --server-list")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port in 1 to 65535")
    return int(text)


def _discard_stdout() -> None:
    # The interpreter flushes stdout once more at exit and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
