"""
``python -m bench.idle``: what a server pays for sessions that do nothing.

Thousands of clients in memory shake hands with the sessions of a real server, open a channel,
send and get a word, and end it; then they are dropped, and their sessions stay. Each table is
measured in a process of its own, from /proc. Time is virtual while clients come, and real where
processor time is measured.

The machine may be twice as fast at one time as at another, so what it costs to start one more
session is compared, in turns, with what it costs at an empty server, in a process beside.
"""

from __future__ import annotations

import argparse
import gc
import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection

from twisted.logger import globalLogBeginner

from bench.visitors import CROWD, Bench
from resip.core.modern import endpoint
from resip.services import sessions
from resip.services.server import PARKING_INTERVAL, SILENCE_CHECK_INTERVAL

#: Seconds after which every session is folded up whose client is gone.
LONG = 120.0
#: Seconds of idleness whose processor time is measured.
IDLENESS = 60.0
#: How many starts are compared with those at an empty server.
SAMPLE = 400
#: Sessions besides those that are counted.
SPARE = SAMPLE + 2 * CROWD
#: Seconds between the packets of a client that lives.
KEEP_ALIVE = 60.0


class State(StrEnum):
    """
    What the sessions of clients that are gone are left to become. A server folds them up.
    """

    AWAKE = "awake, ciphers put away"
    FOLDED = "folded up"


def resident_kib() -> float:
    """
    Memory of this process, KiB.
    """
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def median(values: Sequence[float]) -> float:
    """
    The middle one.
    """
    return sorted(values)[len(values) // 2]


def start_when_asked(bench: Bench, pipe: Connection) -> None:
    """
    Start a session whenever anything comes, and send what it cost.
    """
    gc.enable()
    while True:
        pipe.recv()
        pipe.send(bench.start_one())


def fork(bench: Bench) -> Connection:
    """
    A server like this one in a process of its own, which ends with this one.
    """
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    context.Process(target=start_when_asked, args=(bench, theirs), daemon=True).start()
    return ours


def compare_starts(bench: Bench, other: Connection) -> tuple[list[float], list[float]]:
    """
    What it costs to start sessions here, and at the other server, in turns.
    """
    here: list[float] = []
    there: list[float] = []
    for _ in range(SAMPLE):
        here.append(bench.start_one())
        other.send(None)
        there.append(other.recv())
    return here, there


def measure(count: int, state: State, *, keeps_channel: bool) -> None:
    """
    Let ``count`` clients come, and print a table.
    """
    if state is not State.FOLDED:
        endpoint.PARK_AFTER = math.inf
    # One more than a server takes has to start, too.
    sessions.MAX_SESSIONS = count + SPARE
    # Until then all that is logged is kept.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    bench = Bench(count + SPARE, keeps_channel=keeps_channel)
    gc.disable()
    bench.visits(CROWD)
    bench.run_for(LONG)
    gc.collect()
    empty = fork(bench)
    before = resident_kib()
    bench.visits(count)
    bench.run_for(LONG)
    gc.collect()
    gc.enable()
    show = partial(print, "   ", flush=True)
    show(f"the process, MiB               {resident_kib() / 1024:8.1f}")
    show(f"for each session, KiB          {(resident_kib() - before) / count:8.2f}")
    show(f"timers of the server           {len(bench.clock.getDelayedCalls()):8}")
    show(f"CPU in {IDLENESS:.0f} s of idleness, ms     {idle(bench) * 1e3:8.2f}")
    pause = LONG if state is State.FOLDED else KEEP_ALIVE
    show(f"CPU of a keep-alive, ms        {bench.keep_alive(pause) * 1e3:8.2f}")
    here, there = compare_starts(bench, empty)
    show(f"start of one more, ms          {median(here) * 1e3:8.2f}")
    show(f"... at an empty server, ms     {median(there) * 1e3:8.2f}")
    began = time.process_time()
    gc.collect()
    show(f"a whole garbage collection, ms {(time.process_time() - began) * 1e3:8.2f}")


def idle(bench: Bench) -> float:
    """
    Processor seconds of real idleness, with the server's timers that look at all sessions.
    """
    began = time.process_time()
    for number in range(1, round(IDLENESS / PARKING_INTERVAL) + 1):
        time.sleep(PARKING_INTERVAL)
        bench.sweep()
        if number * PARKING_INTERVAL % SILENCE_CHECK_INTERVAL == 0:
            bench.sessions.end_silent()
    return time.process_time() - began


def main() -> None:
    """
    Print the tables.
    """
    parser = argparse.ArgumentParser(description="A server's idle sessions.")
    parser.add_argument("--count", type=int, default=10_000, help="sessions")
    parser.add_argument("--keep-channel", action="store_true", help="each keeps one channel open")
    parser.add_argument("--state", choices=[state.name for state in State], help="only this table")
    arguments = parser.parse_args()
    if arguments.state is not None:
        state = State[arguments.state]
        measure(arguments.count, state, keeps_channel=arguments.keep_channel)
        return
    command = [sys.executable, "-m", "bench.idle", *sys.argv[1:], "--state"]
    runs = [
        subprocess.Popen([*command, state.name], stdout=subprocess.PIPE, text=True)
        for state in State
    ]
    for state, run in zip(State, runs, strict=True):
        print(f"{arguments.count} sessions, {state}", flush=True)
        print(run.communicate()[0], end="", flush=True)
    if any(run.returncode for run in runs):
        raise SystemExit("a run failed")


if __name__ == "__main__":
    main()
