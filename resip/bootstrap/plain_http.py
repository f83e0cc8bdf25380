"""
The server's port for plain HTTP: carriers and nothing else, above all no session API, whose keys
nobody may read. What carriers carry protects itself.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource

from resip.bootstrap.resource import Carry
from resip.carriers.web import CARRIER_PATH

NOT_FOUND = 404


class CarrierResource(Resource):
    """
    Answers every path and every method: what is no carrier's request is not there (M-55, M-68).

    :param carry: takes the requests of carriers.
    """

    isLeaf = True

    def __init__(self, carry: Carry) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._carry = carry

    def render(self, request: Any) -> bytes | int:
        """
        Answer one request, whatever its method.
        """
        if request.path == CARRIER_PATH.encode("ascii"):
            carried = self._carry(request)
            if carried is not None:
                return carried
        request.setResponseCode(NOT_FOUND)
        request.responseHeaders.setRawHeaders("Cache-Control", ["no-store"])
        return b""
