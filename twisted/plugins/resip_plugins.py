"""
What twistd finds: the two services. Their modules are imported only when they are used.
"""

from twisted.application.service import ServiceMaker

resip_server = ServiceMaker(
    "Resilient IP server",
    "resip.taps.server",
    "The far end of a tunnel whose connections survive outages, loss and changes of address.",
    "resip-server",
)

resip_client = ServiceMaker(
    "Resilient IP client",
    "resip.taps.client",
    "The near end of a tunnel: local ports that lead to targets behind a resip-server.",
    "resip-client",
)
