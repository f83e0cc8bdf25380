"""
The erasure floor: the share of packets that the path loses whatever the sending rate is.

It is learnt only from phases in which the queue was short. It may sink at any time, creep up
a little, and beyond that rise only after an experiment (:mod:`.experiment`) has shown that
loss does not follow the own rate.
"""

from __future__ import annotations

import math

from resip.core.congestion.phases import BurstMeter, Phase

#: Packets over which the floor is averaged.
MEMORY = 1000.0
#: With bursts of loss it takes more of them, up to this factor, for the same precision.
MAXIMUM_MEMORY_FACTOR = 4.0
#: Packets over which the baseline of an experiment is averaged.
BASELINE_MEMORY = 300.0
#: The floor may creep this far above what was last proven, before an experiment must confirm it.
CREEP_FACTOR = 1.1
CREEP_MARGIN = 0.02
CREEP_PACKETS = 300.0
#: Where bursts are so many times longer than chance makes them, which no overflow of ours does, so
#: many standard deviations may separate the floor from its proof: the first ones differ that much.
BURSTY_STRETCH = 2.75
BURSTY_DEVIATIONS = 2.0
#: No floor is higher.
MAXIMUM = 0.97
#: Below this loss the model needs no proof for growth.
LOSSY = 0.02
#: A phase with fewer packets is no evidence of a jump.
JUMP_PACKETS = 40
JUMP_DEVIATIONS = 3.0
JUMP_MARGIN = 0.01
#: The variance of the loss is never taken for less than that of 0.4 %.
MIN_VARIANCE = 0.004
#: Packets that stand behind the floor itself.
FLOOR_PACKETS = 800.0


class ErasureFloor:
    """
    Estimates the floor from phases.

    :ivar value: share of the packets that is erased, 0 to :data:`MAXIMUM`.
    :ivar proven: the value that the last experiment, or start-up, established.
    :ivar bursts: how much losses cluster.
    """

    __slots__ = (
        "_baseline_lost",
        "_baseline_sent",
        "_lost",
        "_proof_packets",
        "_sent",
        "bursts",
        "proven",
        "value",
    )

    def __init__(self) -> None:
        self.value = self.proven = 0.0
        self.bursts = BurstMeter()
        self._sent = self._lost = 0.0
        self._baseline_sent = self._baseline_lost = 0.0
        self._proof_packets = 150.0

    @property
    def estimate(self) -> float:
        """
        The average itself, proven or not.
        """
        return self._lost / max(1.0, self._sent)

    @property
    def recent(self) -> float:
        """
        What the latest packets lost while the queue was short; 0 when that is unknown.
        """
        return self._baseline_lost / max(1.0, self._baseline_sent)

    @property
    def certain(self) -> float:
        """
        The least that the floor must be, by the packets that the last proof rests on.
        """
        return self.value - self.deviation(self._proof_packets)

    @property
    def cap(self) -> float:
        """
        The floor may creep this far without a proof: the last one did not know it any better.
        """
        variance = max(self.proven * (1 - self.proven), MIN_VARIANCE) / self._proof_packets
        deviation = math.sqrt(self.bursts.inflation(self.value) * variance)
        deviations = BURSTY_DEVIATIONS if self.bursts.stretch > BURSTY_STRETCH else 1.0
        return self.proven * CREEP_FACTOR + CREEP_MARGIN + deviations * deviation

    @property
    def is_lossy(self) -> bool:
        """
        Erasures are too many to be ignored.
        """
        return self.value > LOSSY

    def deviation(self, packets: float) -> float:
        """
        Standard deviation of the difference between a mean over ``packets`` and the floor.
        """
        variance = max(self.value * (1 - self.value), MIN_VARIANCE)
        inflation = self.bursts.inflation(self.value)
        return math.sqrt(inflation * variance * (1 / max(1.0, packets) + 1 / FLOOR_PACKETS))

    def is_jump(self, phase: Phase) -> bool:
        """
        Whether the phase lost so much that the floor cannot explain it.
        """
        margin = JUMP_DEVIATIONS * self.deviation(phase.sent) + JUMP_MARGIN
        return phase.sent >= JUMP_PACKETS and phase.loss > max(self.value + margin, self.cap)

    def prove(self, value: float, *, packets: float) -> None:
        """
        An experiment, or start-up, established the floor.

        :param packets: how many it rests on.
        """
        self.value = self.proven = min(max(value, 0.0), MAXIMUM)
        self._proof_packets = max(packets, 50.0)
        # The past argues for another floor; a part of it as a memory keeps the new one steady.
        self._sent = min(packets, MEMORY / 4)
        self._lost = self._sent * self.value

    def learn(self, phase: Phase) -> bool:
        """
        Average in a phase with a short queue.

        :return: whether the floor wants to creep above its cap, so that a proof is due.
        """
        inflation, cap = self.bursts.inflation(self.value), self.cap
        decay = math.exp(-phase.sent / (MEMORY * min(inflation, MAXIMUM_MEMORY_FACTOR)))
        self._sent = self._sent * decay + phase.sent
        self._lost = self._lost * decay + phase.lost
        estimate = self.estimate
        self.value = min(estimate, cap, MAXIMUM)
        self.proven = min(self.proven, self.value)
        return estimate > cap and self._sent > CREEP_PACKETS

    def note_baseline(self, phase: Phase) -> None:
        """
        Remember the loss of a phase with a short queue for the next experiment.
        """
        decay = math.exp(-phase.sent / BASELINE_MEMORY)
        self._baseline_sent = self._baseline_sent * decay + phase.sent
        self._baseline_lost = self._baseline_lost * decay + phase.lost

    def baseline(self, loss: float) -> tuple[float, float]:
        """
        The loss that an experiment compares with, and how many packets it rests on.

        :param loss: of the phase that caused the experiment.
        """
        if self._baseline_sent < 1:
            return loss, 50.0
        return min(loss, self._baseline_lost / self._baseline_sent), max(50.0, self._baseline_sent)
