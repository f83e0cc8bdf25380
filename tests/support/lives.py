"""
Random lives of both dialects. ``python -m tests.support.lives --count 1000`` lives many.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import Pool

from resip.core.modern.flow_control import INITIAL_SESSION_WINDOW
from resip.core.session import Session
from resip.lab.modern import agree, make_session
from tests.support.classic import SessionMaker
from tests.support.life import Life
from tests.support.modern import available, modern
from tests.support.parties import Party


class ModernLife(Life):
    """
    Modern sessions, of which the server's is folded up now and then.
    """

    @property
    def openers(self) -> Sequence[Party]:
        """
        Both may, the client does more often.
        """
        return (self.client, self.client, self.server)

    def make_sessions(self, seed: int, *, now: float) -> tuple[Session, Session]:
        """
        A client's session and the server's.
        """
        client, server = agree(seed)
        return (
            make_session(client, seed=seed, now=now),
            make_session(server, seed=seed + 1, now=now),
        )

    def deeds(self) -> list[tuple[Callable[[], None], int]]:
        """
        What may be done next, and how often.
        """
        return [*super().deeds(), (self._update_keys, 2), (self._idle, 4)]

    def check_rest(self) -> None:
        """
        Nothing is kept for anybody.
        """
        for party in self.parties:
            session = modern(party.host)
            party.check(not session.channel_count, "no channel is left")
            party.check(available(party.host) >= INITIAL_SESSION_WINDOW, "all credit came back")
        session, now = modern(self.server.host), self.simulator.now
        self.server.check(session.park(now=now), "nothing is going on")

    def _update_keys(self) -> None:
        party = self.dice.choice(self.parties)
        modern(party.host).request_key_update(now=self.simulator.now)

    def _idle(self) -> None:
        for party in self.parties:
            for channel_id in party.usable():
                party.consume(channel_id)
        self.flush()
        self.simulator.run_until(self.simulator.now + self.dice.choice((0.0, 5.0, 120.0)))
        session = modern(self.server.host)
        if self.dice.random() < 0.3:
            session.rest()
        else:
            self.note(f"folded up: {session.park(now=self.simulator.now)}")


class ClassicLife(Life):
    """
    Classic sessions, whose packets need 540 bytes.
    """

    host = "192.0.2.7"
    mtus = (None, 576, 1500)

    def make_sessions(self, seed: int, *, now: float) -> tuple[Session, Session]:
        """
        A client's session and the server's.
        """
        maker = SessionMaker(seed, now=now)
        return maker.make_client(), maker.server

    def check_rest(self) -> None:
        """
        They do not say.
        """


def live(life: type[Life], seed: int) -> str | None:
    """
    One life; returns what went wrong.
    """
    try:
        life(seed).live()
    except Exception as error:
        return f"{life.__name__}, seed {seed}: {type(error).__name__}: {error}"
    return None


def main() -> None:
    """
    Live many lives, on several processors.
    """
    parser = argparse.ArgumentParser(description="Random lives of two sessions.")
    parser.add_argument("--classic", action="store_true", help="of the classic dialect")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    life = ClassicLife if arguments.classic else ModernLife
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.count)
    failures = 0
    with Pool(arguments.jobs) as pool:
        for failure in pool.imap_unordered(partial(live, life), seeds):
            if failure is not None:
                print(failure, flush=True)
                failures += 1
    print(f"{failures} of {len(seeds)} lives went wrong")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
