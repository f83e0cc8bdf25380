"""
How much of a link a stream fills in a session that did something else before.

What a side learns while it only receives, answers echoes or sleeps must not hold it back later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.conditions import ECHO, LINK, start_bulk, way
from bench.matrix import Case, Reading
from resip.core.errors import ResetCode
from resip.core.types import Protocol, Target
from resip.lab.applications import EchoClient, EchoServer
from resip.lab.modern import make_modern_pair
from resip.lab.pair import SimulatedPair

BEFORE = Target(Protocol.TCP, "before.example", 3)
TRANSFER_TIME = 16.0
ECHO_TIME = 60.0
ECHO_INTERVAL = 0.1
IDLE_TIME = 300.0
WARM_UP = 4.0
SECONDS = 12.0
LOSSES = (0.0, 0.3, 0.5)
#: What happens before.
Earlier = Callable[[SimulatedPair, bool], None]


def transfer_other_way(pair: SimulatedPair, is_up: bool) -> None:
    """
    A stream in the other direction, which the client leaves in the middle.
    """
    receiver = start_bulk(pair, is_up=not is_up, target=BEFORE)
    pair.run_for(TRANSFER_TIME)
    assert receiver.channel_id is not None
    pair.client.session.reset(receiver.channel_id, ResetCode.CANCELLED, now=pair.now)


def keep_transferring(pair: SimulatedPair, is_up: bool) -> None:
    """
    A stream in the other direction, which goes on.
    """
    start_bulk(pair, is_up=not is_up, target=BEFORE)
    pair.run_for(TRANSFER_TIME)


def echo(pair: SimulatedPair, is_up: bool) -> None:
    """
    Small messages, and their answers.
    """
    EchoServer(ECHO).serve(pair.server)
    client = EchoClient(ECHO, interval=ECHO_INTERVAL)
    client.start(pair.client)
    pair.run_for(ECHO_TIME)
    client.stop()


def transfer_and_sleep(pair: SimulatedPair, is_up: bool) -> None:
    """
    A stream in the same direction, and then nothing for long.
    """
    receiver = start_bulk(pair, is_up=is_up, target=BEFORE)
    pair.run_for(TRANSFER_TIME)
    assert receiver.channel_id is not None
    pair.client.session.reset(receiver.channel_id, ResetCode.CANCELLED, now=pair.now)
    pair.run_for(IDLE_TIME)


EARLIER: dict[str, Earlier] = {
    "after the other way": transfer_other_way,
    "beside the other way": keep_transferring,
    "after 60 s of echoes": echo,
    "after 5 min of silence": transfer_and_sleep,
}


def goodput(loss: float, is_up: bool, earlier: Earlier, seed: int) -> Sequence[float]:
    """
    Mbit/s of one stream.
    """
    pair = make_modern_pair(replace(LINK, loss=loss), seed=seed, keeps_events=False)
    earlier(pair, is_up)
    receiver = start_bulk(pair, is_up=is_up)
    start = pair.now + WARM_UP
    pair.run_until(start + SECONDS)
    return [receiver.progress.get_goodput(start, start + SECONDS) / 1e6]


def cases(target: Callable[[float], float]) -> Iterator[Case]:
    """
    Each of them in both directions.

    :param target: Mbit/s at a loss.
    """
    for what, earlier in EARLIER.items():
        for is_up in (True, False):
            for loss in LOSSES:
                reading = Reading(f"loss {loss:.0%}, {way(is_up)}, {what}", "Mbit/s", target(loss))
                measure = partial(goodput, loss, is_up, earlier)
                is_quick = loss == 0.5 and is_up and earlier is transfer_other_way
                yield Case((reading,), measure, is_quick=is_quick)
