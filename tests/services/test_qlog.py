"""
Traces in qlog: which events a run leaves, what stands in them, and what ends them.
"""

from __future__ import annotations

import json
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest import skipUnless

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ResetCode
from resip.core.trace import NULL_TRACE, Trace
from resip.lab.link import LinkConditions
from resip.lab.pair import SimulatedPair
from resip.lab.qlog import read_events, summarise
from resip.services.clock import Clocks
from resip.services.qlog import MAX_TRACES, QlogDirectory, Sink, create_file, trace_maker
from tests.services.fixture import ServiceTestCase
from tests.support.modern import SERVER_ID, make_modern_pair, modern, open_accepted
from tests.support.pair import PLAIN, TCP_TARGET

#: The simulator's first moment, and a day in 2023.
CLOCKS = Clocks(monotonic=lambda: 1000.0, wall=lambda: 1_700_000_000.0)
SECRET = b"a payload that nobody else may see"
LOSSY = replace(PLAIN, loss=0.3, mtu=1400, rate=1e6)
#: Writing to it fails as on a full disk.
FULL = Path("/dev/full")


class QlogCase(SynchronousTestCase):
    """
    A directory for each side, and an ear at the log.
    """

    def setUp(self) -> None:
        """
        Begin to listen.
        """
        self.path = Path(self.mktemp())
        self.log: list[LogEvent] = []
        observer = cast(ILogObserver, self.log.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def make_directory(self, role: str = "server", **changes: Any) -> QlogDirectory:
        """
        A directory to trace into.
        """
        return QlogDirectory(self.path, role=role, clocks=CLOCKS, **changes)

    def read(self, name: str) -> list[dict[str, Any]]:
        """
        The records of a file, the header first.
        """
        lines = read_lines(self.path / name)
        self.assertTrue(all(line.startswith("\x1e") for line in lines))
        return [json.loads(line[1:]) for line in lines]

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        """
        The data of all events of one name.
        """
        return [record["data"] for record in self.read(name)[1:] if record["name"] == event]

    def complaints(self) -> list[str]:
        """
        What the log says about traces.
        """
        texts = [formatEvent(event) for event in self.log]
        return [text for text in texts if "traces" in text]


def read_lines(path: Path) -> list[str]:
    """
    The lines of a trace. That each begins with 0x1E would make two of it for ``splitlines``.
    """
    return path.read_text().rstrip("\n").split("\n")


def make_pair(trace: Trace, client: Trace = NULL_TRACE) -> SimulatedPair:
    """
    Two sessions of which the server's is traced.
    """
    return make_modern_pair(PLAIN, traces=(client, trace))


def transfer(pair: SimulatedPair, seconds: float, conditions: LinkConditions = PLAIN) -> int:
    """
    Send something from the server to the client; returns the channel.

    :param conditions: of both links, once there is a channel.
    """
    channel_id = open_accepted(pair, TCP_TARGET)
    pair.up.conditions = pair.down.conditions = conditions
    pair.server.session.write(channel_id, SECRET * 4000, now=pair.now)
    pair.run_for(seconds)
    return channel_id


class EventTests(QlogCase):
    """
    What a run leaves.
    """

    def test_the_header_says_what_it_is(self) -> None:
        """
        The first record names format, side and the time that all others are relative to.
        """
        pair = make_pair(self.make_directory("client").start(7))
        pair.server.session.close(now=pair.now)
        header = self.read("client-00000007.sqlog")[0]
        self.assertEqual((header["qlog_version"], header["qlog_format"]), ("0.3", "JSON-SEQ"))
        self.assertEqual(header["trace"]["vantage_point"]["type"], "client")
        common = header["trace"]["common_fields"]
        self.assertEqual(common, {"time_format": "relative", "reference_time": 1.7e12})

    def test_a_lossy_transfer_leaves_its_events(self) -> None:
        """
        Packets, losses, probe timeouts, sizes, states and channels are there, and every packet
        that was sent is accounted for.
        """
        trace, client = self.make_directory().start(1), self.make_directory("client").start(1)
        pair = make_pair(trace, client)
        channel_id = transfer(pair, 5, LOSSY)
        pair.down.conditions = replace(LOSSY, is_down=True)
        pair.server.session.write(channel_id, SECRET, now=pair.now)
        pair.run_for(5)
        modern(pair.server).request_key_update(now=pair.now)
        pair.down.conditions = LOSSY
        pair.run_for(3)
        pair.server.session.reset(channel_id, ResetCode.REFUSED, now=pair.now)
        pair.run_for(1)
        pair.client.session.close(now=pair.now)
        pair.run_for(1)
        records = self.read("server-00000001.sqlog")[1:]
        counts = Counter[str]()
        for record in records:
            counts[record["name"]] += record["data"].get("count", 1)
        for name in (
            "connectivity:connection_started",
            "connectivity:connection_closed",
            "connectivity:path_assigned",
            "connectivity:mtu_updated",
            "transport:packet_received",
            "transport:stream_state_updated",
            "recovery:metrics_updated",
            "recovery:congestion_state_updated",
            "recovery:loss_timer_updated",
            "recovery:packet_lost",
            "security:key_updated",
        ):
            self.assertGreater(counts[name], 0, name)
        self.assertEqual(counts["transport:packet_sent"], pair.down.counters.sent)
        lost = self.events("server-00000001.sqlog", "recovery:packet_lost")
        triggers = {data["trigger"] for data in lost}
        self.assertLessEqual({"time_threshold", "pto_expired"}, triggers)
        states = self.events("server-00000001.sqlog", "transport:stream_state_updated")
        self.assertEqual([state["new"] for state in states], ["open", "reset"])
        times = [record["time"] for record in records]
        self.assertEqual(times, sorted(times))

    def test_metrics_are_in_the_units_of_qlog(self) -> None:
        """
        Times are milliseconds, rates bits a second, and what did not change is left out.
        """
        pair = make_pair(self.make_directory().start(1))
        transfer(pair, 3, replace(PLAIN, rate=10e6))
        pair.server.session.close(now=pair.now)
        metrics = self.events("server-00000001.sqlog", "recovery:metrics_updated")
        self.assertNotIn("min_rtt", metrics[-1])
        whole: dict[str, Any] = {}
        for metric in metrics:
            whole |= metric
        self.assertAlmostEqual(whole["min_rtt"], 100, delta=1)
        self.assertGreater(whole["pacing_rate"], 1e6)
        self.assertEqual((whole["bytes_in_flight"], whole["loss"]), (0, 0))
        self.assertIn("controller_erasure_floor", whole)

    def test_drops_have_a_trigger(self) -> None:
        """
        A forged packet and a repeated one are told apart.
        """
        trace = self.make_directory().start(1)
        pair = make_pair(trace)
        for data in (SERVER_ID.to_bytes(4) + bytes(60), b"short", b"short"):
            pair.server.receive(data, pair.client_path)
        pair.server.session.close(now=pair.now)
        drops = self.events("server-00000001.sqlog", "transport:packet_dropped")
        self.assertEqual(
            [(drop["trigger"], drop["count"]) for drop in drops],
            [("payload_decrypt_error", 1), ("too_short", 1), ("too_short", 1)],
        )

    def test_a_change_of_address_is_told(self) -> None:
        """
        The server writes down each address that it sends to.
        """
        pair = make_pair(self.make_directory().start(1))
        channel_id = transfer(pair, 1)
        host, port = pair.change_address()
        pair.client.session.write(channel_id, SECRET, now=pair.now)
        pair.run_for(1)
        pair.server.session.close(now=pair.now)
        paths = self.events("server-00000001.sqlog", "connectivity:path_assigned")
        self.assertEqual(len(paths), 2)
        self.assertIn(f"{host}:{port}", paths[-1]["path"])

    def test_no_payload_is_written(self) -> None:
        """
        Neither data nor the target of a channel is in the file, and only its owner may read it.
        """
        pair = make_pair(self.make_directory().start(1))
        transfer(pair, 1)
        pair.server.session.close(now=pair.now)
        path = self.path / "server-00000001.sqlog"
        text = path.read_text()
        self.assertNotIn(SECRET[:9].decode(), text)
        self.assertNotIn(TCP_TARGET.host, text)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_a_run_is_the_same_with_and_without(self) -> None:
        """
        Tracing changes nothing of what a session does.
        """
        totals = []
        for trace in (NULL_TRACE, self.make_directory().start(1)):
            pair = make_pair(trace)
            transfer(pair, 3, LOSSY)
            totals.append(pair.down.counters)
        self.assertEqual(*totals)

    def test_a_summary_has_a_line_for_each_second(self) -> None:
        """
        The command reads what the services write, cut off lines included.
        """
        pair = make_pair(self.make_directory().start(1))
        transfer(pair, 3, LOSSY)
        pair.server.session.close(now=pair.now)
        lines = read_lines(self.path / "server-00000001.sqlog")
        summary = list(summarise(read_events([*lines, '\x1e{"time":']), 1.0))
        seconds = [line.split()[0] for line in summary if "_" not in line.split()[1]]
        self.assertEqual(seconds, ["0.00", "1.00", "2.00", "3.00"])


class BoundTests(QlogCase):
    """
    What ends a trace.
    """

    def test_nothing_is_traced_by_default(self) -> None:
        """
        Without a directory the trace is the one that forgets.
        """
        self.assertIs(trace_maker(None, role="client", clocks=CLOCKS)(1), NULL_TRACE)

    def test_a_full_file_becomes_the_one_before(self) -> None:
        """
        At its limit a file is put aside, the next has a header and all metrics, and no more than
        two are kept.
        """
        directory = self.make_directory(max_file_size=10_000)
        pair = make_pair(directory.start(1))
        transfer(pair, 10, LOSSY)
        self.assertEqual(
            sorted(path.name for path in self.path.iterdir()),
            ["server-00000001.1.sqlog", "server-00000001.sqlog"],
        )
        before = self.path / "server-00000001.1.sqlog"
        self.assertLess(before.stat().st_size, 11_000)
        self.assertEqual(self.read(before.name)[0]["qlog_version"], "0.3")
        metrics = self.events(before.name, "recovery:metrics_updated")
        self.assertIn("min_rtt", metrics[0])

    @skipUnless(FULL.exists(), "the system has no /dev/full")
    def test_a_full_disk_ends_all_traces_with_one_line(self) -> None:
        """
        The sessions go on, the log says once that there are no more traces, new ones are null.
        """

        def create_on_full_disk(path: Path) -> Sink:
            create_file(path).close()
            return open(FULL, "wb", buffering=0)

        directory = self.make_directory(create=create_on_full_disk)
        pair = make_pair(directory.start(1), directory.start(2))
        transfer(pair, 3)
        self.assertGreater(pair.down.counters.delivered_bytes, len(SECRET) * 4000)
        self.assertIs(directory.start(3), NULL_TRACE)
        (complaint,) = self.complaints()
        self.assertIn("No space left", complaint)

    def test_a_directory_that_cannot_be_made_is_told_once(self) -> None:
        """
        A path below a file is no directory: there are no traces, and one line says so.
        """
        self.path.write_text("a file")
        self.path = self.path / "below"
        directory = self.make_directory()
        self.assertEqual([directory.start(n) for n in range(3)], [NULL_TRACE] * 3)
        self.assertEqual(len(self.complaints()), 1)

    def test_no_more_than_so_many_sessions_are_traced(self) -> None:
        """
        The disk is bounded by the number of sessions as well; those being traced go on.
        """
        directory = self.make_directory()
        traces = [directory.start(number) for number in range(MAX_TRACES)]
        self.assertIs(directory.start(MAX_TRACES), NULL_TRACE)
        for trace in traces:
            trace.session_closed("over", now=1000.0)
        self.assertEqual(len(list(self.path.iterdir())), MAX_TRACES)
        self.assertEqual(len(self.complaints()), 1)


class ServiceTests(ServiceTestCase):
    """
    Both services with ``--qlog``.
    """

    async def test_both_sides_write_one_file_for_a_session(self) -> None:
        """
        The files have the number that the logs have, and end when the services do.
        """
        self.qlog = Path(self.mktemp())
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port)
        await self.echo(client)
        number = client.session_id
        await self.stop_all()
        names = sorted(path.name for path in self.qlog.iterdir())
        self.assertEqual(names, [f"{role}-{number:08x}.sqlog" for role in ("client", "server")])
        for name in names:
            last = json.loads(read_lines(self.qlog / name)[-1][1:])
            self.assertEqual(last["name"], "connectivity:connection_closed", name)
