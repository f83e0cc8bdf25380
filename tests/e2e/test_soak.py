"""
Tests of :mod:`bench.soak`: a short one passes, and none overlooks what it is there to find.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from twisted.trial.unittest import SynchronousTestCase

from bench.soak import Health
from bench.soak_traffic import Target, Traffic
from tests.support.processes import ROOT, run

SEED = 3


class SoakTests(SynchronousTestCase):
    """
    The whole program.
    """

    def test_a_short_one(self) -> None:
        """
        Some faults, and every byte once and in order.
        """
        command = (sys.executable, "-m", "bench.soak", "--minutes=0.2", f"--seed={SEED}")
        result = run(*command, cwd=ROOT, seconds=240.0)
        output = result.stdout.decode() + result.stderr.decode()
        self.assertEqual(result.returncode, 0, output)
        self.assertRegex(output, rf"[1-9]\d* faults(.|\n)*seed {SEED}: every byte once")


class TrafficTests(SynchronousTestCase):
    """
    The traffic, without a tunnel.
    """

    def run_traffic(self, port: int) -> Traffic:
        """
        Each kind of traffic at least once.
        """
        traffic = Traffic(("127.0.0.1", port), seed=SEED)
        traffic.start()
        traffic.stop()
        return traffic

    def test_intact(self) -> None:
        """
        Nothing is wrong where nothing goes wrong.
        """
        traffic = self.run_traffic(Target().port)
        self.assertEqual(traffic.problems, [])
        self.assertEqual(traffic.connections, 4)

    def test_damage(self) -> None:
        """
        Whoever hears something else, or nothing, says so.
        """
        for answer in (b"", b"N" * 100_000):
            liar = socket.create_server(("127.0.0.1", 0))
            self.addCleanup(liar.close)
            threading.Thread(target=_lie, args=(liar, answer), daemon=True).start()
            traffic = self.run_traffic(liar.getsockname()[1])
            found = {problem.partition(":")[0] for problem in traffic.problems}
            self.assertEqual(found, {"download", "upload", "short", "dialogue"}, answer[:1])


class HealthTests(SynchronousTestCase):
    """
    What processes use.
    """

    def test_leaked_descriptors(self) -> None:
        """
        A few more are no matter; many are.
        """
        health = Health("test", os.getpid())
        for _ in range(3):
            health.look()
        self.assertEqual(list(health.find_problems()), [])
        pipes = [descriptor for _ in range(20) for descriptor in os.pipe()]
        try:
            (problem,) = health.find_problems()
        finally:
            for descriptor in pipes:
                os.close(descriptor)
        self.assertIn("descriptors open", problem)


def _lie(listening: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.recv(1)
            connection.sendall(answer)
