"""
Any verbs in any order, on any network, against any peer that has the keys.
"""

from __future__ import annotations

import contextlib  # not its suppress by name, which trial would take for its own
import zlib
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.client import ClassicClientSession
from resip.core.classic.commands import KeepAlive, Response, Start, Stop, Terminate
from resip.core.classic.configuration import PROTOTYPE, PUBLISHED, ClassicConfiguration, PeerTraits
from resip.core.classic.packet import Flag
from resip.core.classic.server import ClassicServerSession
from resip.core.errors import ChannelError, LimitError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
    ChannelWritable,
    DataReceived,
    Event,
    PathChanged,
    PeerSilent,
)
from resip.core.types import Path, Protocol, Target
from tests.support.classic import NOW, Forger, SessionMaker, drain

#: Fewer channels than are asked for, and buffers that overflow all the time.
MAX_CHANNELS = 5
LIMITS = {
    "max_fragments": 8,
    "max_channels": MAX_CHANNELS,
    "send_buffer": 6000,
    "receive_buffer": 2000,
    "reorder_window": 32,
    "session_reorder_limit": 64,
    "max_message": 5000,
}
STEPS = 400
#: How often a pause of a millisecond comes between two steps, and so on to one of an hour.
PAUSES = [40, 80, 80, 20, 1, 1]

Session = ClassicClientSession | ClassicServerSession


class Side:
    """
    One session, its owner's view of the channels, and what is on its way to the peer.

    :ivar channels: ids of the channels that are alive, and whether their end was reported.
    """

    def __init__(self, session: Session, forger: Forger, path: Path) -> None:
        self.session = session
        self.forger = forger
        self.path = path
        self.channels: dict[int, bool] = {}
        self.network: list[bytes] = []

    def use(self, verb: Callable[[], object]) -> None:
        """
        Call a verb, which may raise what is documented and nothing else.
        """
        with contextlib.suppress(ChannelError, ValueError, LimitError):
            verb()

    def open(self, target: Target, *, compress: bool, now: float) -> None:
        """
        Open a channel, if that is allowed.
        """
        with contextlib.suppress(ChannelError, LimitError):
            channel_id = self.session.open_channel(target, now=now, compress=compress)
            assert channel_id not in self.channels, "ids are used once"
            self.channels[channel_id] = False

    def reset(self, channel_id: int, *, now: float) -> None:
        """
        Reset a channel; nothing may be heard of it afterwards.
        """
        with contextlib.suppress(ChannelError):
            self.session.reset(channel_id, ResetCode.CANCELLED, now=now)
            del self.channels[channel_id]

    def refuse(self, channel_id: int, *, now: float) -> None:
        """
        Refuse a channel; nothing may be heard of it afterwards.
        """
        with contextlib.suppress(ChannelError):
            self.session.refuse_channel(channel_id, ResetCode.REFUSED, now=now)
            del self.channels[channel_id]

    def check(self, *, now: float) -> None:
        """
        Fetch events and packets, and check what is promised of them.
        """
        session = self.session
        self._check_events()
        for _, packets in session.datagrams_to_send(now=now):
            self.network += packets
        self._check_events()
        assert session.channel_count == len(self.channels) <= MAX_CHANNELS
        assert 0 <= session.packets_held <= LIMITS["session_reorder_limit"] + MAX_CHANNELS
        assert self.channels or not session.packets_held

    def let_pass(self, *, now: float) -> None:
        """
        Act on all deadlines up to now, as a driver does; they come to an end.
        """
        for _ in range(50):
            self.session.handle_timer(now=now)
            self.check(now=now)
            timer = self.session.get_timer()
            if timer is None or timer > now:
                return
        raise AssertionError("a deadline that has passed stays due")

    def _check_events(self) -> None:
        for event in drain(self.session):
            self._check_event(event)

    def _check_event(self, event: Event) -> None:
        match event:
            case ChannelRequested(channel_id, _):
                assert channel_id not in self.channels, "it was requested before"
                self.channels[channel_id] = False
            case ChannelReset(channel_id, _) | ChannelClosed(channel_id):
                del self.channels[channel_id]
            case ChannelEnded(channel_id):
                assert not self.channels[channel_id], "a channel ends once"
                self.channels[channel_id] = True
            case DataReceived(channel_id, data):
                assert data and not self.channels[channel_id], "nothing follows an end"
            case ChannelOpened(channel_id) | ChannelWritable(channel_id):
                assert channel_id in self.channels, "it is gone"
            case PathChanged() | PeerSilent():
                pass
            case _:
                raise AssertionError(f"{event} is no event of a session")


class Chaos:
    """
    Two sides, and dice.
    """

    def __init__(self, seed: int, peer: PeerTraits, *, sign_size: int, injects: bool) -> None:
        configuration = ClassicConfiguration(peer=peer, **LIMITS)
        maker = SessionMaker(seed, configuration, sign_size=sign_size)
        self.random = Random(seed)
        self.injects = injects
        self.now = NOW
        client, server = maker.make_client(), maker.server
        self.client = Side(client, maker.make_forger(is_server=True), Path("udp", ("::1", 1)))
        self.server = Side(server, maker.make_forger(is_server=False), Path("udp", ("::1", 2)))
        client.use_path(self.client.path, now=NOW)

    def step(self) -> None:
        """
        Something happens.
        """
        side, other = self.client, self.server
        if self.random.random() < 0.5:
            side, other = other, side
        action = self.random.choices(
            [self._verb, self._deliver, self._time, self._path, self._inject],
            [10, 10, 10, 0.3, 3 * self.injects],
        )[0]
        action(side, other)
        for each in (side, other):
            each.check(now=self.now)

    def _verb(self, side: Side, other: Side) -> None:
        random, now, session = self.random, self.now, side.session
        channel_id = random.choice([*side.channels, random.randrange(1, 9)])
        data = random.randbytes(random.choice([0, 1, 100, 475, 2000, 9000]))
        match random.randrange(10):
            case 0:
                protocol = random.choice(list(Protocol))
                target = Target(protocol, random.choice(["127.0.0.1", "::1"]), 80)
                side.open(target, compress=random.random() < 0.3, now=now)
            case 1 if random.random() < 0.1:
                side.refuse(channel_id, now=now)
            case 2 if random.random() < 0.1:
                side.reset(channel_id, now=now)
            case 3 if random.random() < 0.3:
                side.use(lambda: session.end(channel_id, now=now))
            case 4:
                session.consume(channel_id, random.randrange(3000), now=now)
            case 5 | 6 | 7:
                side.use(lambda: session.write(channel_id, data, now=now))
            case _:
                side.use(lambda: session.accept_channel(channel_id, now=now))

    def _deliver(self, side: Side, other: Side) -> None:
        random = self.random
        for _ in range(min(len(side.network), 1 + random.randrange(30))):
            packet = side.network.pop(0 if random.random() < 0.7 else -1)
            fate = random.random()
            if fate < 0.2:
                continue
            if fate < 0.3:
                side.network.append(packet)
            if fate > 0.95:
                at = random.randrange(len(packet))
                packet = packet[:at] + random.randbytes(1) + packet[at + 1 :]
            other.session.receive_datagrams([packet], other.path, now=self.now)

    def _time(self, side: Side, other: Side) -> None:
        self.now += self.random.choices([0.001, 0.01, 0.1, 1.0, 30.0, 3600.0], PAUSES)[0]
        for each in (side, other):
            each.let_pass(now=self.now)

    def _path(self, side: Side, other: Side) -> None:
        random, session = self.random, side.session
        path = Path("udp", ("::1", random.randrange(3)), is_reliable=random.random() < 0.3)
        match random.randrange(4):
            case 0:
                session.use_path(path, now=self.now)
            case 1 if session.path is not None:
                session.path_closed(session.path, now=self.now)
            case 2:
                session.retry(now=self.now)
            case _:
                other.path = path

    def _inject(self, side: Side, other: Side) -> None:
        forger, random = side.forger, self.random
        packet = random.choice([self._make_command, self._make_data])(forger)
        side.session.receive_datagrams([packet], side.path, now=self.now)

    def _make_command(self, forger: Forger) -> bytes:
        random = self.random
        channel_id = random.randrange(9)
        number = random.choice([0, 1, 20, 40, 2**64 - 1])
        protocol = random.choice([6, 17, 1])
        command = random.choice(
            [
                Start(channel_id, protocol, "::1", 80, random.random() < 0.5).encode(),
                Response(channel_id).encode(),
                Stop(channel_id, number).encode(),
                Terminate(random.choice([channel_id, None])).encode(),
                KeepAlive().encode(),
            ]
        )
        if random.random() < 0.2:
            return forger.acknowledge(channel_id, random.randrange(60), number + 60)
        if random.random() < 0.1:
            command = random.randbytes(random.randrange(40))
        return forger.seal(0, random.choice([0, random.randrange(1, 80)]), command)

    def _make_data(self, forger: Forger) -> bytes:
        random = self.random
        data = random.randbytes(random.randrange(300))
        if random.random() < 0.3:
            data = zlib.compress(bytes(random.choice([10, 9000])))
        flags = random.choice([0, Flag.MORE, Flag.COMPRESSED, Flag.MORE | Flag.COMPRESSED])
        return forger.seal(random.randrange(1, 9), random.choice([0, *range(1, 50)]), data, flags)


class OperationTests(SynchronousTestCase):
    """
    Sessions promise something for every sequence of inputs.
    """

    def run_chaos(self, chaos: Chaos) -> None:
        """
        Many steps; then both owners give up, and nothing is left.
        """
        for _ in range(STEPS):
            chaos.step()
        for side in (chaos.client, chaos.server):
            side.session.close(now=chaos.now)
            side.check(now=chaos.now)
            self.assertEqual((side.session.channel_count, side.session.packets_held), (0, 0))
            # Only commands are left to be acknowledged.
            self.assertLess(side.session.packets_unacknowledged, 2 * STEPS)

    @settings(max_examples=60)
    @given(st.integers(0, 2**32), st.sampled_from([PUBLISHED, PROTOTYPE]))
    def test_between_two_honest_sides(self, seed: int, peer: PeerTraits) -> None:
        """
        Verbs in any order on a network that does anything raise nothing but what is
        documented; events keep their order, and limits hold.
        """
        self.run_chaos(Chaos(seed, peer, sign_size=20, injects=False))

    @settings(max_examples=60)
    @given(st.integers(0, 2**32), st.sampled_from([16, 20]))
    def test_with_a_forger_between(self, seed: int, sign_size: int) -> None:
        """
        The same, while somebody who has the keys sends packets of any kind to both.
        """
        self.run_chaos(Chaos(seed, PUBLISHED, sign_size=sign_size, injects=True))
