"""Accepts mail: stores the message and adds the job that delivers it, in one transaction.

What is refused is refused here, before anything is stored. The mail itself is
rendered and sent by `delivery.py`, in a worker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from muskox import Muskox, NewJob
from muskox.apps.mail import store
from muskox.apps.mail.addresses import Address, parse_address
from muskox.apps.mail.bell import Bell
from muskox.apps.mail.compose import Composed, Letter, Sender, boundary_of, compose, message_id_of
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.headers import check_custom_name, check_text
from muskox.apps.mail.inbox import Inbox
from muskox.apps.mail.jobs import Jobs, SharedJobs
from muskox.apps.mail.kinds import KINDS, Kind, Stream, kind_of
from muskox.apps.mail.pool import Smtp
from muskox.apps.mail.signing import Dkim
from muskox.apps.mail.standing import withhold
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.store import Message
from muskox.apps.mail.templates import Templates
from muskox.apps.mail.verp import bounce_address, bounce_token
from muskox.apps.mail.worlds import moment_now
from muskox.apps.mail.writer import Writer

__all__ = ["JOB_NAME", "Accepted", "Links", "Mail", "Unseal"]

JOB_NAME = "deliver"
P = ParamSpec("P")
R = TypeVar("R")

Unseal = Callable[[Connection, Mapping[str, Any]], Mapping[str, Any] | None]
"""Gives what a mail says and no database may hold, such as a link with a token, while it is rendered.

None withdraws the mail: what it speaks of is no longer true.
"""


class Links(Protocol):
    """Gives mail that comes from a list its links to leave it, which lie in no database; see `list_links.py`."""

    def context(self, message: Message, context: Mapping[str, Any]) -> dict[str, Any]:
        """What the templates are given beside the context of the message."""
        ...

    def headers(self, message: Message, context: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Headers that must arrive as they are."""
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The stored message; `created` is False when the same key had stored it before.

    `state` is `suppressed` when its address is not written to: it has no job then.
    """

    id: str
    created: bool
    state: MessageState = MessageState.QUEUED


class Mail:
    """Sends mail for a program: templates in, messages with a delivery state out.

    `site` is given to every template: `product` and `home_url`. `secret` derives
    message ids and must stay the same as long as messages are on their way. `jobs` None: they are kept in the
    database of `engine` too.
    `threads` write to the database at once: one for SQLite, where more would only wait for each other.
    `bounce_domain` receives reports of what could not be delivered: each mail then has a sender of its own there.
    `dkim` signs every mail; without it, the relay may.
    `domain_groups` says which recipient domains belong to one provider, and are limited as one.
    """

    def __init__(
        self,
        ox: Muskox,
        engine: Engine,
        *,
        transport: Smtp | Inbox,
        templates: Templates,
        sender: Sender,
        secret: bytes,
        site: Mapping[str, str],
        jobs: Jobs | None = None,
        bell: Bell | None = None,
        threads: int = 1,
        bounce_domain: str = "",
        domain_groups: Mapping[str, str] | None = None,
        dkim: Dkim | None = None,
    ) -> None:
        self.ox = ox
        self.engine = engine
        self.transport = transport
        self.templates = templates
        self.jobs = jobs or SharedJobs(ox)
        self.bell = bell or Bell()
        self._sender = sender
        self._secret = secret
        self.site = dict(site)
        self.links: Links | None = None
        self._unseal: dict[str, Unseal] = {}
        self._bounce_domain = bounce_domain
        self._dkim = dkim
        self._domain_groups = dict(domain_groups or {})
        self._threads = ThreadPoolExecutor(threads, "muskox-mail")
        self.writer = Writer(engine, self._threads)

    def close(self) -> None:
        """Let go of the threads, once nothing is sent any more."""
        self._threads.shutdown()

    async def in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work with the database in a thread kept for that."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))

    def unseal(self, template: str, function: Unseal) -> None:
        """Let `function` add to the context of `template` each time that it is rendered."""
        self.templates.get(template)
        self._unseal[template] = function

    def send(
        self,
        template: str,
        *,
        to: str | Address,
        context: Mapping[str, Any] | None = None,
        display: str = "",
        kind: str = "custom",
        within: Session | Connection | None = None,
        key: str | None = None,
        scope: str = "",
        user_id: str | None = None,
        expires_at: datetime | None = None,
        headers: Sequence[tuple[str, str]] = (),
        stream: Stream | None = None,
        priority: int | None = None,
        not_before: datetime | None = None,
        campaign_id: str | None = None,
    ) -> Accepted:
        """Store a message and add its job; `within` puts both into a transaction of the caller's.

        `stream` and `priority` are those of the kind unless they are given; no attempt begins before `not_before`.

        The same `key` in the same `scope` gives the message that is there already. Raises `Refused`, and has then
        stored nothing. Blocks: call it from a thread.
        """
        message = self.new_message(
            template,
            to=to,
            context=context or {},
            display=display,
            kind=kind,
            stream=stream,
            expires_at=expires_at,
            headers=headers,
        )
        message = replace(
            message,
            user_id=user_id,
            campaign_id=campaign_id,
            scope=scope,
            idempotency_key=key,
            priority=message.priority if priority is None else priority,
            next_attempt_at=not_before,
        )
        if within is None:
            with self.engine.begin() as connection:
                return self._store(connection, message)
        return self._store(within.connection() if isinstance(within, Session) else within, message)

    def limit_key(self, domain: str) -> str:
        """Give the key under which mail to a domain is limited: its own name, or that of its provider."""
        return self._domain_groups.get(domain, domain)

    def _store(self, connection: Connection, message: Message) -> Accepted:
        """Write the message and add its job, unless its key is known."""
        if not store.insert_message(connection, message):
            known = store.find_same(connection, message)
            assert known is not None
            return Accepted(known.id, created=False, state=known.state)
        message = withhold(connection, message, message.created_at)
        if message.state is MessageState.SUPPRESSED:
            return Accepted(message.id, created=True, state=message.state)
        self.jobs.add_many(connection, [self.job_of(message)])
        return Accepted(message.id, created=True)

    def job_of(self, message: Message) -> NewJob:
        """Make the job that delivers a message, to be added: now, or when its next attempt is due."""
        return self.ox.queue(message.queue).new(
            JOB_NAME,
            {"message_id": message.id},
            id=message.job_id,
            priority=message.priority,
            attempts=max(1, message.max_attempts - message.attempts),
            key=self.limit_key(message.to_domain),
            delay=self._delay_of(message),
        )

    def _delay_of(self, message: Message) -> float:
        """Seconds until a message may be tried, when that is not now."""
        if message.next_attempt_at is None:
            return 0.0
        return max(0.0, (message.next_attempt_at - moment_now(self.ox.world)).total_seconds())

    def unsealed(self, connection: Connection, message: Message) -> dict[str, Any] | None:
        """Give the whole context of a message for rendering; None when the mail is withdrawn."""
        context = json.loads(message.context)
        function = self._unseal.get(message.template)
        if function is not None:
            more = function(connection, context)
            if more is None:
                return None
            context |= more
        if self.links is not None:
            context |= self.links.context(message, context)
        return {**self.site, **context}

    def composed(self, message: Message, context: Mapping[str, Any], date: datetime) -> Composed:
        """Render, compose and sign a message; raises `RenderError` or another `Refused`."""
        rendered = self.templates.render(message.template, context)
        composed = compose(
            Letter(
                message_id=message.message_id_header,
                sender=Sender(parse_address(message.from_address), message.from_display),
                to=parse_address(message.to_address),
                to_display=message.to_display,
                subject=rendered.subject,
                text=rendered.text,
                html=rendered.html,
                date=date,
                boundary=boundary_of(self._secret, message.id),
                bulk=message.stream == Stream.BULK,
                list_headers=() if self.links is None else self.links.headers(message, context),
                extra_headers=tuple((name, value) for name, value in json.loads(message.headers)),
            )
        )
        return composed if self._dkim is None else self._dkim.sign(composed, date)

    def new_message(
        self,
        template: str,
        *,
        to: str | Address,
        context: Mapping[str, Any],
        display: str = "",
        kind: str = "custom",
        stream: Stream | None = None,
        expires_at: datetime | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Make a message, checked and not stored; raises `Refused`."""
        rules = _kind(kind, stream)
        address = to if isinstance(to, Address) else parse_address(to)
        check_text("the recipient's name", display, longest=300)
        subject = self.templates.subject(template, {**self.site, **context})
        check_text("the subject", subject)
        for name, value in headers:
            check_text(f"the header {check_custom_name(name)}", value)
        world, now = self.ox.world, moment_now(self.ox.world)
        id = world.new_id()
        envelope_from, token = str(self._sender.address), None
        if self._bounce_domain:
            token = bounce_token(self._secret, id)
            envelope_from = bounce_address(token, self._bounce_domain)
        return Message(
            id=id,
            kind=rules.name,
            stream=rules.stream,
            to_address=str(address),
            to_display=display,
            address_key=address.key,
            to_domain=address.domain,
            from_address=str(self._sender.address),
            from_display=self._sender.display,
            envelope_from=envelope_from,
            bounce_token=token,
            subject=subject,
            template=template,
            template_hash=self.templates.fingerprint(template),
            context=json.dumps(dict(context), ensure_ascii=False),
            headers=json.dumps([list(pair) for pair in headers], ensure_ascii=False),
            message_id_header=message_id_of(self._secret, id, self._sender.address.domain),
            queue=rules.queue,
            priority=rules.priority,
            max_attempts=rules.attempts,
            expires_at=expires_at or now + timedelta(seconds=rules.deadline),
            created_at=now,
            job_id=id,
            transport=self.transport.name,
        )


def _kind(name: str, stream: Stream | None) -> Kind:
    if name not in KINDS:
        raise Refused(f"there is no kind of mail {name!r}; there are {', '.join(sorted(KINDS))}")
    return KINDS[name] if stream is None else kind_of(name, stream)
