"""
Tests for :mod:`resip.tunnel.resolution`.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from resip.tunnel.hosts import IPAddress
from resip.tunnel.reactor import ITunnelReactor
from resip.tunnel.resolution import MAX_ADDRESSES, RESOLUTION_TIMEOUT, ResolutionError, resolve
from tests.tunnel.programs import ScriptedResolver


class SilentResolver(ScriptedResolver):
    """
    A name server that answers when it is told to.
    """

    receiver: IResolutionReceiver

    def resolveHostName(  # type: ignore[override]
        self, resolutionReceiver: IResolutionReceiver, hostName: str, *args: object
    ) -> object:
        """
        Say nothing.
        """
        self.receiver = resolutionReceiver
        return object()


class ResolveTests(SynchronousTestCase):
    """
    From names to addresses.
    """

    def resolve(self, resolver: ScriptedResolver) -> Deferred[list[IPAddress]]:
        """
        Ask for a.example.
        """
        self.reactor = MemoryReactorClock()
        self.reactor.installNameResolver(resolver)
        return Deferred.fromCoroutine(resolve(cast(ITunnelReactor, self.reactor), "a.example"))

    def test_addresses_are_unmapped_and_told_once(self) -> None:
        """
        Every spelling of an address counts as the same one; the order stays.
        """
        resolver = ScriptedResolver(
            a_example=[["::1", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%lo"]]
        )
        addresses = self.successResultOf(self.resolve(resolver))
        self.assertEqual([str(each) for each in addresses], ["::1", "10.0.0.1"])

    def test_the_number_of_addresses_is_bounded(self) -> None:
        """
        However many addresses a name has, the first few are looked at.
        """
        many = [f"10.0.0.{number}" for number in range(100)]
        addresses = self.successResultOf(self.resolve(ScriptedResolver(a_example=[many])))
        self.assertEqual(len(addresses), MAX_ADDRESSES)

    def test_an_answer_is_not_awaited_for_ever(self) -> None:
        """
        A name server that says nothing is an error in the end, and harmless when it answers late.
        """
        resolver = SilentResolver()
        resolving = self.resolve(resolver)
        self.reactor.advance(RESOLUTION_TIMEOUT)
        self.failureResultOf(resolving, ResolutionError)
        resolver.receiver.resolutionComplete()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
