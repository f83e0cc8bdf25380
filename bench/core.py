"""
``python -m bench.core``: what the modern core alone costs, packet by packet.

Two sessions in one process, without sockets, at an MTU of 1500 and with one stream that never
ends. What each side does for a packet is timed and set in relation to one ``AESGCM.encrypt`` of
the same bytes in the same run: so the figures of two machines, or of a busy and a quiet one, can
be compared. Time inside the sessions is virtual; loss is thrown by seeded dice.

``--check`` fails when a ratio is above its limit; it is quick enough for CI.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from resip.core import events
from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.modern.outbound import BURST
from resip.core.modern.session import ModernSession
from resip.core.types import Path, Protocol, Target
from tests.support.modern import agree, make_session

#: Bytes of a UDP payload in an Ethernet frame over IPv4.
DATAGRAM_SIZE = 1472
#: Virtual seconds between bursts; acknowledgements arrive so many bursts after what they are for:
#: late enough for the path not to be a quick one, whose window would be in the way, or at once,
#: so that packets leave in fragments.
INTERVAL = 300e-6
LAG = 8
QUICK_LAG = 1
TARGET = Target(Protocol.TCP, "bulk.example", 1)
BLOCK = bytes(range(256)) * 1024
#: Packets of one timed round, and packets before the first.
ROUND = 8_000
WARM_UP = 4_000
BURSTS = (1, 4, 16, 44, BURST)
LOSSES = (0.0, 0.01, 0.05)
USUAL_BURST = BURST
#: Costs in calls of the cipher, and where packets leave in fragments. The target is 4; a busy
#: machine must not fail the check.
RATIO_LIMIT = 6.0
QUICK_RATIO_LIMIT = 3.0


class SteadyController(ErasureAwareController):
    """
    Learns all that the real one learns, at its cost, and sends bursts of one size all the same.

    :param burst: packets.
    """

    def __init__(self, burst: int, *, random: Callable[[], float], now: float) -> None:
        super().__init__(datagram_size=DATAGRAM_SIZE, random=random, now=now)
        self._rate = burst * DATAGRAM_SIZE / INTERVAL

    @property
    def pacing_rate(self) -> float:
        """
        The same for ever, once the real one was asked.
        """
        _ = super().pacing_rate
        return self._rate

    @property
    def congestion_window(self) -> int:
        """
        So large that it is never in the way.
        """
        _ = super().congestion_window
        return 1 << 30


@dataclass
class Cost:
    """
    Time that one side took. In seconds, and for how many packets.
    """

    seconds: float = 0.0
    packets: int = 0

    @property
    def microseconds(self) -> float:
        """
        For each packet.
        """
        return self.seconds / self.packets * 1e6


class CoreBench:
    """
    A sender and a receiver, call by call.

    :param burst: packets between two looks at the clock.
    :param loss: share of the packets that vanish.
    :param lag: bursts until the answers come.
    """

    def __init__(self, *, burst: int, loss: float, lag: int = LAG, seed: int = 1) -> None:
        self._loss = loss
        self._dice = random.Random(seed)
        self._now = 1.0
        sides = [
            make_session(
                agreement, seed=seed, now=self._now, controller=self._controller(burst, seed)
            )
            for agreement in agree(seed)
        ]
        self._sender, self._receiver = sides
        self._to_server = Path("udp", ("192.0.2.1", 1))
        self._to_client = Path("udp", ("198.51.100.1", 1))
        self._answers: deque[Sequence[bytes]] = deque([[]] * lag)
        self._deadlines: dict[ModernSession, float | None] = {}
        self._rest = BLOCK
        self._encrypt = partial(AESGCM(bytes(16)).encrypt, bytes(12), associated_data=bytes(8))
        self.sending, self.receiving, self.sealing = Cost(), Cost(), Cost()
        self._sender.use_path(self._to_server, now=self._now)
        self._channel = self._sender.open_channel(TARGET, now=self._now)
        self.run(WARM_UP)

    def run(self, packets: int) -> None:
        """
        Send so many packets, and count what they cost.
        """
        self.sending, self.receiving, self.sealing = Cost(), Cost(), Cost()
        clock = time.thread_time
        while self.sending.packets < packets:
            self._now += INTERVAL
            start = clock()
            sent = self._send()
            middle = clock()
            for packet in sent:
                self._encrypt(packet)
            sealed = clock()
            arrived = self._transmit(sent)
            begin = clock()
            answers = self._receive(arrived)
            end = clock()
            self._answers.append(answers)
            self.sealing.seconds += sealed - middle
            self.sealing.packets += len(sent)
            self.sending.seconds += middle - start
            self.sending.packets += len(sent)
            self.receiving.seconds += end - begin
            self.receiving.packets += len(arrived)

    def _controller(self, burst: int, seed: int) -> SteadyController:
        return SteadyController(burst, random=random.Random(seed).random, now=self._now)

    def _transmit(self, packets: Sequence[bytes]) -> Sequence[bytes]:
        # What leaves in trains, the system hands over in trains.
        is_whole = not self._loss and max(map(len, packets), default=0) <= DATAGRAM_SIZE
        return packets if is_whole else [each for each in packets if self._arrives(each)]

    def _arrives(self, packet: bytes) -> bool:
        return len(packet) <= DATAGRAM_SIZE and self._dice.random() >= self._loss

    def _send(self) -> Sequence[bytes]:
        session = self._sender
        answers = self._answers.popleft()
        if answers:
            session.receive_datagrams(answers, self._to_server, now=self._now)
        while (accepted := session.write(self._channel, self._rest, now=self._now)) > 0:
            self._rest = self._rest[accepted:] or BLOCK
        while session.next_event() is not None:
            pass
        return self._turn(session)

    def _receive(self, packets: Sequence[bytes]) -> Sequence[bytes]:
        session = self._receiver
        if packets:
            session.receive_datagrams(packets, self._to_client, now=self._now)
        while (event := session.next_event()) is not None:
            match event:
                case events.DataReceived(channel_id, data):
                    session.consume(channel_id, len(data), now=self._now)
                case events.ChannelRequested(channel_id):
                    session.accept_channel(channel_id, now=self._now)
        return self._turn(session)

    def _turn(self, session: ModernSession) -> Sequence[bytes]:
        # As a driver does it.
        deadline = self._deadlines.get(session)
        if deadline is not None and deadline <= self._now:
            session.handle_timer(now=self._now)
        batches = session.datagrams_to_send(now=self._now)
        self._deadlines[session] = session.get_timer()
        if len(batches) == 1:
            return batches[0][1]
        return [packet for _, packets in batches for packet in packets]


@dataclass
class Result:
    """
    The least cost of some rounds, microseconds a packet; and of the cipher alone.
    """

    send: float
    receive: float
    cipher: float

    @property
    def ratios(self) -> tuple[float, float]:
        """
        Calls of the cipher that sending, and receiving, costs.
        """
        return self.send / self.cipher, self.receive / self.cipher


def measure(*, burst: int, loss: float, lag: int, rounds: int) -> Result:
    """
    The least of some rounds: what else runs on the machine only adds.
    """
    bench = CoreBench(burst=burst, loss=loss, lag=lag)
    best = Result(float("inf"), float("inf"), float("inf"))
    for _ in range(rounds):
        bench.run(ROUND)
        best.cipher = min(best.cipher, bench.sealing.microseconds)
        best.send = min(best.send, bench.sending.microseconds)
        best.receive = min(best.receive, bench.receiving.microseconds)
    return best


def show(cases: Sequence[tuple[int, float, int]], *, rounds: int) -> list[Result]:
    """
    Print one line for each case of burst, loss and lag.
    """
    print("burst   loss  RTT, ms  cipher   send + ack     receive + ack, us a datagram (in calls)")
    results = []
    for burst, loss, lag in cases:
        result = measure(burst=burst, loss=loss, lag=lag, rounds=rounds)
        send, receive = result.ratios
        print(
            f"{burst:5} {loss:6.0%} {lag * INTERVAL * 1e3:8.1f} {result.cipher:8.2f}"
            f" {result.send:7.2f} ({send:4.1f}) {result.receive:9.2f} ({receive:4.1f})",
            flush=True,
        )
        results.append(result)
    return results


def profile(run: Callable[[], None]) -> None:
    """
    Print which functions take the time.
    """
    profiler = cProfile.Profile()
    profiler.runcall(run)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


def main() -> None:
    """
    Measure all cases, one with a profile, or check one against the limit.
    """
    parser = argparse.ArgumentParser(description="The cost of the modern core for each packet.")
    parser.add_argument("--rounds", type=int, default=7, help="of each line; the best counts")
    parser.add_argument("--check", action="store_true", help="fail above a limit")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--burst", type=int, default=USUAL_BURST, help="with --profile")
    parser.add_argument("--loss", type=float, default=0.0, help="with --profile")
    arguments = parser.parse_args()
    if arguments.profile:
        bench = CoreBench(burst=arguments.burst, loss=arguments.loss)
        profile(lambda: bench.run(5 * ROUND))
        return
    if arguments.check:
        results = show(
            [(USUAL_BURST, 0.0, LAG), (USUAL_BURST, 0.0, QUICK_LAG)], rounds=arguments.rounds
        )
        for result, limit in zip(results, (RATIO_LIMIT, QUICK_RATIO_LIMIT), strict=True):
            if max(result.ratios) > limit:
                sys.exit(f"a datagram costs more than {limit:.0f} calls of the cipher")
        return
    cases = [(burst, 0.0, LAG) for burst in BURSTS]
    cases += [(USUAL_BURST, loss, LAG) for loss in LOSSES[1:]]
    cases.append((USUAL_BURST, 0.0, QUICK_LAG))
    show(cases, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
