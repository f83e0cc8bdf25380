"""
The readings of a session, for its trace.
"""

from __future__ import annotations

from resip.core.congestion.rate import RateController
from resip.core.modern.recovery import LossRecovery
from resip.core.trace import Readings


def readings(recovery: LossRecovery, controller: RateController) -> Readings:
    """
    Times in seconds, rates in bytes a second.
    """
    rtt = recovery.rtt
    return {
        "min_rtt": rtt.minimum,
        "smoothed_rtt": rtt.smoothed,
        "latest_rtt": rtt.latest,
        "rtt_variance": rtt.variation,
        "pto_count": recovery.pto_count,
        "congestion_window": controller.congestion_window,
        "bytes_in_flight": recovery.in_flight.bytes,
        "packets_in_flight": recovery.in_flight.packets,
        "pacing_rate": controller.pacing_rate,
        "loss": recovery.loss.rate,
        "loss_burst": recovery.loss.burst_length,
        **{f"controller_{name}": value for name, value in controller.stats.items()},
    }
