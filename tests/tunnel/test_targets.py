"""
Tests for :mod:`resip.tunnel.targets`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resip.core.errors import ResetCode
from resip.core.types import Protocol, Target
from resip.tunnel.policy import Policy
from tests.tunnel.fixture import TunnelTestCase
from tests.tunnel.programs import RecordingUser, eventually


class TargetTests(TunnelTestCase):
    """
    Which targets are connected, and to which address.
    """

    async def ask(self, host: str, port: int, protocol: Protocol = Protocol.TCP) -> object:
        """
        What the client hears first about a channel to a target.
        """
        user = RecordingUser()
        user.channel = self.link.open_channel(Target(protocol, host, port), user)
        await eventually(lambda: user.heard)
        user.channel.reset()
        return user.heard[0]

    async def test_a_permitted_name_may_have_any_address(self) -> None:
        """
        A name that a pattern covers is connected wherever it leads.
        """
        self.use_names(db_example=[["127.0.0.1"]])
        self.policy = Policy(["db.example"])
        _, port = self.serve()
        self.assertEqual(await self.ask("DB.example.", port), "opened")

    async def test_a_name_is_judged_by_its_addresses(self) -> None:
        """
        Of a name that no pattern covers, permitted addresses are connected, others never.
        """
        self.use_names(mixed_example=[["10.9.9.9", "127.0.0.1"]], private_example=[["10.9.9.9"]])
        _, port = self.serve()
        self.assertEqual(await self.ask("mixed.example", port), "opened")
        self.assertEqual(await self.ask("private.example", port), ResetCode.REFUSED)

    async def test_rebinding_a_name_does_not_help(self) -> None:
        """
        The address that was checked is the address that is connected: one question per channel.
        """
        self.policy = Policy(["127.0.0.1"])
        resolver = self.use_names(evil_example=[["127.0.0.1"], ["127.0.0.2"]])
        programs, port = self.serve()
        self.assertEqual(await self.ask("evil.example", port), "opened")
        self.assertEqual(resolver.questions, ["evil.example"])
        self.assertEqual(programs.connections[0].tcp.getHost().host, "127.0.0.1")
        self.assertEqual(await self.ask("evil.example", port), ResetCode.REFUSED)

    async def test_an_address_may_belong_to_a_permitted_name(self) -> None:
        """
        A client that resolved a permitted name itself asks for its address and gets it.
        """
        self.use_names(db_example=[["10.9.9.9", "127.0.0.1"]])
        _, port = self.serve()
        self.policy = Policy(["gone.example", f"db.example:{port}"])
        self.assertEqual(await self.ask("127.0.0.1", port), "opened")
        self.assertEqual(await self.ask("127.0.0.2", port), ResetCode.REFUSED)

    async def test_unknown_names_are_not_told_apart(self) -> None:
        """
        Only for names it may reach does a client learn that they do not exist.
        """
        self.use_names()
        self.assertEqual(await self.ask("nowhere.example", 9), ResetCode.REFUSED)
        self.policy = Policy(["nowhere.example"])
        self.assertEqual(await self.ask("nowhere.example", 9), ResetCode.CONNECT_FAILED)

    async def test_every_address_is_tried(self) -> None:
        """
        When the first address does not answer the next one does.
        """
        self.use_names(twin_example=[["127.0.0.2", "127.0.0.1"]])
        programs, port = self.serve()
        self.assertEqual(await self.ask("twin.example", port), "opened")
        self.assertEqual(len(programs.connections), 1)

    async def test_mapped_addresses_are_connected_as_ipv4(self) -> None:
        """
        An IPv4-mapped target is judged and connected as the IPv4 address it is.
        """
        programs, port = self.serve()
        self.assertEqual(await self.ask("::ffff:127.0.0.1", port), "opened")
        self.assertEqual(programs.connections[0].tcp.getHost().host, "127.0.0.1")
        self.assertEqual(await self.ask("::ffff:10.0.0.1", port), ResetCode.REFUSED)

    async def test_nonsense_is_refused_and_does_not_reach_the_log(self) -> None:
        """
        A host that is no host is refused; its text, which could forge lines, is not logged.
        """
        self.policy = Policy(["*"])
        for host in ("evil\nforged line", "", "127.1", "fe80::1%lo"):
            self.assertEqual(await self.ask(host, 9), ResetCode.REFUSED)
        self.assertEqual(await self.ask("127.0.0.1", 0), ResetCode.REFUSED)
        self.assertFalse(any("forged" in each for each in self.messages))

    async def test_the_log_names_key_target_and_cure(self) -> None:
        """
        A refusal says who wanted what and which option would allow it.
        """
        await self.ask("10.0.0.5", 22)
        self.assertEqual(
            self.messages[-1],
            "key laptop: tcp:10.0.0.5:22 refused: no pattern covers it; "
            "to allow it: --allow 10.0.0.5:22",
        )

    async def test_a_channel_given_up_while_connecting(self) -> None:
        """
        When the client is gone before its target answers, the target's connection goes too.
        """
        programs, port = self.serve()
        user = RecordingUser()
        channel = self.link.open_channel(Target(Protocol.TCP, "127.0.0.1", port), user)
        self.link.later(channel.reset)
        await eventually(lambda: programs.connections and programs.connections[0].was_reset)
        await eventually(lambda: self.connector.connections == 0)

    async def test_last_words_of_a_server(self) -> None:
        """
        What a server said before it closed arrives, although the client still writes to it.
        """
        programs, port = self.serve()
        user = RecordingUser()
        user.consumes = False
        channel = user.channel = self.link.open_channel(
            Target(Protocol.TCP, "127.0.0.1", port), user
        )
        await eventually(lambda: programs.connections and programs.connections[0].is_connected)
        programs.connections[0].tcp.write(bytes(300_000))
        programs.connections[0].tcp.loseConnection()
        await eventually(lambda: programs.connections[0].lost_reason)
        user.consumes = True
        channel.consume(len(user.received))
        for _ in range(3):
            await eventually(lambda: len(user.received) == 300_000)
            channel.write(b"more and more")
            await deferLater(self.reactor, 0.01)
        self.assertEqual(user.heard[-1], "ended")
        self.assertEqual(len(user.received), 300_000)

    async def test_stopping_while_resolving(self) -> None:
        """
        A connector that stops refuses what it was working on, and whatever comes later.
        """
        resolver = self.use_names()
        resolver.resolveHostName = lambda *args, **kwargs: object()  # type: ignore[method-assign,assignment]
        asking = Deferred.fromCoroutine(self.ask("slow.example", 9))
        await eventually(lambda: len(self.link.opened) == 1 and self.link.live)
        await self.connector.stop()
        self.assertEqual(await asking, ResetCode.CONNECT_FAILED)
        self.assertEqual(await self.ask("127.0.0.1", 9), ResetCode.CONNECT_FAILED)
