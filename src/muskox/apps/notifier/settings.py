"""What the notifier is told by its environment and by `.env`, checked when it starts.

A wrong value stops the start and says which one; nothing is guessed.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from muskox import Cron, OptionError, Rate
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.compose import Sender
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.headers import check_text
from muskox.apps.mail.signing import Dkim
from muskox.apps.mail.smtp import SmtpServer, Tls
from muskox.web import Access, Role, Token, digest_of, read_access

__all__ = ["Settings", "is_loopback", "read_environment", "read_settings"]

_PORTS = {Tls.STARTTLS: 587, Tls.IMPLICIT: 465, Tls.NONE: 25}
_SHORTEST_KEY = 16
_MAILBOX = re.compile(r'\s*"?(?P<display>[^"<>]*?)"?\s*<(?P<address>[^<>]+)>\s*')
_YES, _NO = {"1", "yes", "true", "on"}, {"0", "no", "false", "off"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How one process of the notifier runs. `smtp` None: mail goes to the built-in inbox.

    `access` says who may use what is for operators; without it, this machine alone. `production` refuses campaigns
    that mailbox providers would not take, and hides the pages for development; for it, `signed` says that the relay
    signs, and `dkim` that we do. `asks_per_hour` is how often one
    machine may ask for mail to an address: resets and subscriptions.

    `url` is where the jobs are and `database` where users and mails are, empty: the same.
    """

    url: str
    public_url: str
    sender: Sender
    smtp: SmtpServer | None = None
    secret: str = field(default="", repr=False)
    previous_secret: str = field(default="", repr=False)
    worker: bool = True
    concurrency: int = 10
    lease: float = 30.0
    open_inbox: bool = False
    product: str = "Muskox"
    database: str = ""
    newsletter_cron: str = "0 0 9 * * 1"
    newsletter_tz: str = "UTC"
    newsletter_file: Path | None = None
    media_root: Path | None = None
    rate: Rate | None = None
    domain_rate: Rate | None = None
    bounce_domain: str = ""
    bounce_maildir: Path | None = None
    access: Access = field(default_factory=Access, repr=False)
    production: bool = False
    postal_address: str = ""
    signed: bool = False
    dkim: Dkim | None = None
    asks_per_hour: int = 20

    @property
    def shared(self) -> bool:
        """Whether users, mails and jobs are in one database, so that they commit together."""
        return self.database in ("", self.url)


def read_environment() -> dict[str, str]:
    """The environment, and below it `.env` of the current folder."""
    below = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return {**below, **os.environ}


def read_settings(environment: Mapping[str, str], *, address: str) -> Settings:
    """Read the settings; `address` is where the service can be reached when `PUBLIC_URL` does not say.

    Raises `OptionError` for the first value that cannot be used.
    """
    smtp = _smtp(environment) if environment.get("SMTP_HOST") else None
    sender = _sender(environment, smtp)
    url = environment.get("MUSKOX_URL") or "sqlite:///muskox.db"
    return Settings(
        url=url,
        public_url=_public_url(environment.get("PUBLIC_URL") or address),
        sender=sender,
        smtp=smtp,
        secret=environment.get("SECRET", ""),
        previous_secret=environment.get("SECRET_PREVIOUS", ""),
        worker=_switch(environment, "WORKER", default=True),
        concurrency=_number(environment, "CONCURRENCY", 10, 1_000),
        lease=float(_number(environment, "LEASE", 30, 3_600)),
        open_inbox=environment.get("INBOX", "") == "open",
        product=_product(environment.get("PRODUCT") or "Muskox"),
        **_newsletter(environment),
        media_root=_folder(environment, "MEDIA_ROOT"),
        **_limits(environment),
        **_bounces(environment),
        access=_access(environment),
        production=_switch(environment, "PRODUCTION", default=False),
        postal_address=environment.get("POSTAL_ADDRESS", "").strip(),
        signed=_switch(environment, "SIGNING_RELAY", default=False),
        dkim=_dkim(environment, sender),
        asks_per_hour=_number(environment, "ASKS_PER_HOUR", 20, 1_000_000),
        database=environment.get("DATABASE_URL") or ("" if _keeps_tables(url) else "sqlite:///muskox.db"),
    )


def _newsletter(environment: Mapping[str, str]) -> dict[str, Any]:
    """When the newsletter goes out, and the file with its issue."""
    cron, tz = environment.get("NEWSLETTER_CRON") or "0 0 9 * * 1", environment.get("NEWSLETTER_TZ") or "UTC"
    try:
        Cron(cron, tz)
    except OptionError as error:
        raise OptionError(f"NEWSLETTER_CRON or NEWSLETTER_TZ: {error}") from None
    file = environment.get("NEWSLETTER_FILE", "").strip()
    return {"newsletter_cron": cron, "newsletter_tz": tz, "newsletter_file": Path(file) if file else None}


def _folder(environment: Mapping[str, str], name: str) -> Path | None:
    text = environment.get(name, "").strip()
    if text and Path(text).exists() and not Path(text).is_dir():
        raise OptionError(f"{name} must be a folder, and {text} is a file")
    return Path(text) if text else None


def _limits(environment: Mapping[str, str]) -> dict[str, Any]:
    """How many mails may start a minute: all together, and bulk mail to each recipient domain."""
    names = {"rate": "SMTP_RATE", "domain_rate": "DOMAIN_RATE"}
    limits = {field: _number(environment, name, 0, 1_000_000) for field, name in names.items()}
    return {field: Rate(limit, per=60) if limit else None for field, limit in limits.items()}


def _bounces(environment: Mapping[str, str]) -> dict[str, Any]:
    """The domain to which reports go, and the Maildir in which they land."""
    domain, folder = environment.get("BOUNCE_DOMAIN", "").strip(), environment.get("BOUNCE_MAILDIR", "").strip()
    try:
        written = parse_address(f"bounces@{domain}").domain if domain else ""
    except Refused as error:
        raise OptionError(f"BOUNCE_DOMAIN is {domain!r}: {error}") from None
    return {"bounce_domain": written, "bounce_maildir": Path(folder) if folder else None}


def _dkim(environment: Mapping[str, str], sender: Sender) -> Dkim | None:
    """The signature under each mail: a selector and a key, in a file or as it is."""
    names = ("DKIM_SELECTOR", "DKIM_KEY", "DKIM_KEY_FILE", "DKIM_DOMAIN")
    selector, key, file, domain = (environment.get(name, "").strip() for name in names)
    if not (selector or key or file or domain):
        return None
    if not selector or bool(key) == bool(file):
        raise OptionError("to sign mails set DKIM_SELECTOR and one of DKIM_KEY_FILE and DKIM_KEY")
    try:
        # In an environment, and in many a secret store, a key has to stand in one line.
        text = Path(file).read_text("ascii") if file else key.replace("\\n", "\n")
    except (OSError, ValueError) as error:
        raise OptionError(f"DKIM_KEY_FILE: {file} cannot be read as a key: {error}") from None
    try:
        signer = Dkim(domain or sender.address.domain, selector, text)
    except OptionError as error:
        raise OptionError(f"{'DKIM_KEY_FILE' if file else 'DKIM_KEY'}, DKIM_SELECTOR or DKIM_DOMAIN: {error}") from None
    if not signer.aligned_with(sender.address.domain):
        raise OptionError(
            f"DKIM_DOMAIN is {signer.domain}, and mails come from {sender.address.domain}; "
            "a signature counts for its own domain only"
        )
    return signer


def _access(environment: Mapping[str, str]) -> Access:
    """Who may use the routes for operators: a file as `muskox access` writes it, or one key in `API_KEY`."""
    file, key = environment.get("ACCESS_FILE", "").strip(), environment.get("API_KEY", "").strip()
    access = read_access(Path(file)) if file else Access()
    if not key:
        return access
    if len(key) < _SHORTEST_KEY:
        raise OptionError(f"API_KEY has {len(key)} characters; give at least {_SHORTEST_KEY} random ones")
    return Access(access.users, (*access.tokens, Token("api-key", digest_of(key), Role.ADMIN)))


def _keeps_tables(url: str) -> bool:
    """Whether the store of a URL is a database that can hold users and mails as well."""
    return url.partition(":")[0].lower() in {"sqlite", "postgresql", "postgres"}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _smtp(environment: Mapping[str, str]) -> SmtpServer:
    host = environment["SMTP_HOST"].strip()
    port = _number(environment, "SMTP_PORT", 0, 65_535)
    named = environment.get("SMTP_TLS") or (Tls.IMPLICIT if port == _PORTS[Tls.IMPLICIT] else Tls.STARTTLS)
    try:
        tls = Tls(named.lower())
    except ValueError:
        raise OptionError(f"SMTP_TLS must be starttls, tls or none, not {named!r}") from None
    user = environment.get("SMTP_USER", "")
    if user and tls is Tls.NONE and not is_loopback(host):
        raise OptionError(
            f"SMTP_TLS=none would send the password of SMTP_USER to {host} in clear; use starttls or tls, "
            "or leave SMTP_USER out"
        )
    return SmtpServer(host, port or _PORTS[tls], tls=tls, username=user, password=environment.get("SMTP_PASSWORD", ""))


def _sender(environment: Mapping[str, str], smtp: SmtpServer | None) -> Sender:
    user = environment.get("SMTP_USER", "")
    text = environment.get("SMTP_FROM") or (user if "@" in user else "")
    if not text and smtp is None:
        text = "Muskox <muskox@localhost>"
    if not text:
        raise OptionError('SMTP_FROM is missing; set it to the address mails come from, "Name <name@example.org>"')
    found = _MAILBOX.fullmatch(text)
    try:
        if found is None:
            return Sender(parse_address(text.strip()))
        return Sender(parse_address(found["address"].strip()), check_text("SMTP_FROM", found["display"]))
    except Refused as error:
        raise OptionError(f'SMTP_FROM is {text!r}: {error}; write "Name <name@example.org>"') from None


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise OptionError(f"PUBLIC_URL must be a web address such as https://app.example.org, not {text!r}")
    return text.rstrip("/")


def _product(text: str) -> str:
    try:
        return check_text("PRODUCT", text, longest=60)
    except Refused as error:
        raise OptionError(str(error)) from None


def _number(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise OptionError(f"{name} must be a whole number from 1 to {most}, not {text!r}")
    return int(text)


def _switch(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environment.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _YES | _NO:
        raise OptionError(f"{name} must be 1 or 0, not {text!r}")
    return text in _YES
