"""
How soon a transfer is over, which packet size is found, and what packets cost beside their data.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.conditions import ECHO, HEADERS, LINK, RATE, session_of, start_bulk, way
from bench.matrix import Case, Reading
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, EchoClient, EchoServer
from resip.lab.link import IPV4_UDP_OVERHEAD, LinkConditions, LinkModel
from resip.lab.modern import make_modern_pair
from resip.lab.pair import SimulatedPair

MEGABYTE = 1_000_000
SMALL = 100_000
#: Transfers of one run, of which the median counts.
SMALL_TRANSFERS = 9
#: Seconds after which a transfer has failed.
PATIENCE = 30.0
#: An earlier transfer, by which the session has measured the path, and the pause after it.
EARLIER = 5_000_000
PAUSE = 5.0
BEFORE = Target(Protocol.TCP, "before.example", 3)
LOSS = 0.3
MTUS = (576, 1280, 1500, 9000)
#: The search ends within this share of the size.
RESOLUTION = 1 / 16
MTU_TIME = 20.0
HOLE_TIME = 10.0
STEP = 0.01
WARM_UP = 5.0
BULK_TIME = 12.0
MESSAGES = 600
INTERVAL = 0.1
MESSAGE_SIZE = 64
#: A message alone in a packet: IP and UDP, header and tag, the frame's header.
OWN_PACKET = MESSAGE_SIZE + IPV4_UDP_OVERHEAD + 24 + 6


def time_of(pair: SimulatedPair, receiver: BulkReceiver, size: int) -> float:
    """
    Seconds from now until ``size`` bytes have arrived.
    """
    start = pair.now
    is_done = pair.run_while(lambda: receiver.progress.total < size, start + PATIENCE)
    return pair.now - start if is_done else math.inf


def once(is_up: bool, is_measured: bool, seed: int) -> Sequence[float]:
    """
    Seconds from opening the channel to the last of 1 MB, as a multiple of what an omniscient
    sender needs: the link's rate and the delay.
    """
    pair = make_modern_pair(LINK, seed=seed, keeps_events=False)
    if is_measured:
        before = start_bulk(pair, is_up=is_up, size=EARLIER, target=BEFORE)
        time_of(pair, before, EARLIER)
        pair.run_for(PAUSE)
    receiver = start_bulk(pair, is_up=is_up, size=MEGABYTE)
    ways = 1 if is_up else 2
    omniscient = MEGABYTE * 8 / RATE / (1 - HEADERS) + ways * LINK.delay
    return [time_of(pair, receiver, MEGABYTE) / omniscient]


def small(is_up: bool, seed: int) -> Sequence[float]:
    """
    Median seconds for 100 kB at 30 % loss, each in a session of its own, from when the sender
    knows of the channel.
    """
    times = []
    for number in range(SMALL_TRANSFERS):
        clean = replace(LINK, loss=0.0)
        pair = make_modern_pair(clean, seed=100 * seed + number, keeps_events=False)
        lossy = replace(LINK, loss=LOSS)
        if not is_up:
            # The server learns of the channel after half a round trip; OPEN itself is not lost.
            receiver = start_bulk(pair, is_up=False, size=SMALL)
            pair.run_for(LINK.delay)
        pair.up.conditions = pair.down.conditions = lossy
        if is_up:
            receiver = start_bulk(pair, is_up=True, size=SMALL)
        times.append(time_of(pair, receiver, SMALL))
    return [statistics.median(times)]


def startup_cases() -> Iterator[Case]:
    """
    From the beginning to the last byte.
    """
    for is_up in (True, False):
        name = f"1 MB, unknown path, {way(is_up)}"
        reading = Reading(name, "ideal", high=1.6)
        yield Case((reading,), partial(once, is_up, False), is_quick=True)
        name = f"1 MB, measured path, {way(is_up)}"
        yield Case((Reading(name, "ideal", high=1.25),), partial(once, is_up, True))
        name = f"100 kB at 30 % loss, {way(is_up)}"
        yield Case((Reading(name, "s", high=1.0),), partial(small, is_up))


def packet_size(link: LinkConditions, seed: int) -> Sequence[float]:
    """
    IP bytes of the largest packets of an upload, and seconds until they were that large.
    """
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    start_bulk(pair, is_up=True)
    outbound = session_of(pair.client).connection.outbound
    start, found_at, size = pair.now, 0.0, 0
    while pair.now < start + MTU_TIME:
        pair.run_for(STEP)
        if outbound.datagram_size != size:
            size, found_at = outbound.datagram_size, pair.now - start
    return [size + IPV4_UDP_OVERHEAD, found_at]


def hole(before: int, after: int, loss: float, seed: int) -> Sequence[float]:
    """
    Seconds without data after the path became narrower during a transfer.
    """
    link = replace(LINK, mtu=before, loss=loss)
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    receiver = start_bulk(pair, is_up=True)
    pair.run_for(5)
    pair.up.conditions = pair.down.conditions = replace(link, mtu=after)
    longest, last_time, last = 0.0, pair.now, receiver.progress.total
    end = pair.now + HOLE_TIME
    while pair.now < end:
        pair.run_for(STEP)
        if receiver.progress.total > last:
            longest, last_time = max(longest, pair.now - last_time), pair.now
            last = receiver.progress.total
    return [max(longest, pair.now - last_time)]


def mtu_cases() -> Iterator[Case]:
    """
    The size of packets.
    """
    for loss in (0.0, 0.1):
        for mtu in MTUS:
            name = f"MTU {mtu}, loss {loss:.0%}"
            size = Reading(f"{name}, found", "bytes", low=mtu * (1 - RESOLUTION), high=mtu)
            time = Reading(f"{name}, after", "s")
            link = replace(LINK, mtu=mtu, loss=loss)
            yield Case((size, time), partial(packet_size, link))
        for before, after in ((1500, 1280), (9000, 1500)):
            name = f"MTU {before} becomes {after}, loss {loss:.0%}, pause"
            measure = partial(hole, before, after, loss)
            yield Case((Reading(name, "s", high=3.0),), measure, is_quick=before == 1500)


def bulk_overhead(is_up: bool, seed: int) -> Sequence[float]:
    """
    Share of the bytes on the wire that is not the program's, and the same with the answers, %.

    As much is on its way at the beginning as at the end; what stands in the queue is left out.
    """
    pair = make_modern_pair(LINK, seed=seed, keeps_events=False)
    receiver = start_bulk(pair, is_up=is_up)
    there, back = (pair.up, pair.down) if is_up else (pair.down, pair.up)
    pair.run_for(WARM_UP)
    before = receiver.progress.total, _passed(there, pair.now), _wire_bytes(back)
    pair.run_for(BULK_TIME)
    after = receiver.progress.total, _passed(there, pair.now), _wire_bytes(back)
    data, sent, answers = (new - old for old, new in zip(before, after, strict=True))
    return [100 * (1 - data / sent), 100 * (1 - data / (sent + answers))]


def thin_overhead(loss: float, seed: int) -> Sequence[float]:
    """
    Bytes on the wire, both directions, over those of one packet for each message.
    """
    pair = make_modern_pair(replace(LINK, loss=loss), seed=seed, keeps_events=False)
    EchoServer(ECHO).serve(pair.server)
    client = EchoClient(ECHO, interval=INTERVAL, size=MESSAGE_SIZE)
    client.start(pair.client)
    pair.run_for(2 * WARM_UP)
    before = _wire_bytes(pair.up) + _wire_bytes(pair.down)
    sent = client.sent
    pair.run_for(MESSAGES * INTERVAL)
    wire = _wire_bytes(pair.up) + _wire_bytes(pair.down) - before
    return [wire / (2 * (client.sent - sent) * OWN_PACKET)]


def _passed(link: LinkModel, now: float) -> float:
    return _wire_bytes(link) - link.get_queue_delay(now=now) * RATE / 8


def _wire_bytes(link: LinkModel) -> int:
    counters = link.counters
    return counters.sent_bytes + counters.sent * IPV4_UDP_OVERHEAD


def overhead_cases() -> Iterator[Case]:
    """
    What goes over the wire beside the data.
    """
    for is_up in (True, False):
        readings = (
            Reading(f"bulk, MTU 1500, {way(is_up)}", "%", high=4.0),
            Reading(f"bulk, MTU 1500, {way(is_up)}, with answers", "%"),
        )
        yield Case(readings, partial(bulk_overhead, is_up))
    for loss, high in ((0.0, 1.3), (0.1, None), (0.3, 6.0)):
        reading = Reading(f"echoes of {MESSAGE_SIZE} bytes, loss {loss:.0%}", "times", high=high)
        yield Case((reading,), partial(thin_overhead, loss), is_quick=loss == 0)
