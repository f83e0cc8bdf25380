"""
Tests of :mod:`resip.carriers.http_server` with requests of which the test says what they do.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from resip.carriers import http_server
from resip.carriers.http_server import HTTPServerLink


class FullRequest:
    """
    A GET whose connection is full with the first byte, and says so from inside of ``write``.

    :ivar body: what was answered. :ivar is_finished: nothing more is.
    """

    def __init__(self) -> None:
        self.responseHeaders = Headers()
        self.transport = None
        self.body = b""
        self.is_finished = False
        self._producer: Any = None

    def write(self, data: bytes) -> None:
        """
        Take more of the body.
        """
        assert not self.is_finished, "that is too late"
        self.body += data
        if self._producer is not None:
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Whom to pause.
        """
        self._producer = producer

    def unregisterProducer(self) -> None:
        """
        Nobody any more.
        """
        self._producer = None

    def notifyFinish(self) -> Deferred[None]:
        """
        Never fails.
        """
        return Deferred()

    def finish(self) -> None:
        """
        The response is whole.
        """
        assert not self.is_finished, "that was said"
        self.is_finished = True

    def admit(self) -> None:
        """
        The client is known.
        """


class SilentStream:
    """
    The protocol above a link.
    """

    is_introduced = True

    def makeConnection(self, transport: Any) -> None:
        """
        The link stands.
        """

    def pauseProducing(self) -> None:
        """
        The link is full.
        """

    def resumeProducing(self) -> None:
        """
        It is not.
        """


class FlushTests(SynchronousTestCase):
    """
    :class:`HTTPServerLink` writes to connections that answer at once.
    """

    def answer(self, *, is_short: bool) -> list[FullRequest]:
        """
        What comes back for four GETs when 25 bytes are to be sent, 10 to a response.
        """
        self.patch(http_server, "MAX_RESPONSE_SIZE", 10)
        self.patch(http_server, "MAX_SHORT_RESPONSE_SIZE", 10)
        link = HTTPServerLink(Clock(), ("::1", 1), is_short=is_short, on_over=lambda: None)
        stream = SilentStream()
        link.start(stream)
        link.registerProducer(stream, True)
        link.write(bytes(range(25)))
        requests = [FullRequest() for _ in range(4)]
        for request in requests:
            link.get(request)
        return requests

    def test_a_long_response_is_full(self) -> None:
        """
        One that is paused while it is written to is finished once, and the next one goes on.
        """
        requests = self.answer(is_short=False)
        self.assertEqual(b"".join(request.body[4:] for request in requests), bytes(range(25)))
        self.assertEqual([r.is_finished for r in requests], [True, True, False, False])

    def test_a_short_response_is_full(self) -> None:
        """
        The same where each response ends with what there is.
        """
        requests = self.answer(is_short=True)
        self.assertEqual(b"".join(request.body[4:] for request in requests), bytes(range(25)))
        self.assertEqual([r.is_finished for r in requests], [True, True, True, False])
