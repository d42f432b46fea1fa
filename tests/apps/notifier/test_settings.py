"""Settings: what is taken from the environment, and that wrong values stop the start."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from muskox import OptionError, Rate, StoreUnsupported
from muskox.apps.mail.smtp import Tls
from muskox.apps.notifier.engine import open_engine
from muskox.apps.notifier.keys import key_in_file, key_in_text
from muskox.apps.notifier.settings import is_loopback, read_environment, read_settings
from muskox.testing import FakeWorld

HERE = "http://127.0.0.1:8000"
RELAY = {"SMTP_HOST": "mail.example.org", "SMTP_FROM": "Muskox <no-reply@example.org>"}


def test_mission_c09_nothing_has_to_be_set():
    settings = read_settings({}, address=HERE)

    assert (settings.smtp, settings.url, settings.public_url) == (None, "sqlite:///muskox.db", HERE)
    assert settings.worker


def test_mission_c05_smtp_comes_from_the_environment():
    environment = {**RELAY, "SMTP_PORT": "2525", "SMTP_USER": "ada", "SMTP_PASSWORD": "secret", "SMTP_TLS": "tls"}

    settings = read_settings(environment, address=HERE)

    smtp = settings.smtp
    assert (smtp.host, smtp.port, smtp.username, smtp.password, smtp.tls) == (
        "mail.example.org", 2525, "ada", "secret", Tls.IMPLICIT,
    )  # fmt: skip
    assert (settings.sender.display, str(settings.sender.address)) == ("Muskox", "no-reply@example.org")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(("more", "tls", "port"), [
    ({}, Tls.STARTTLS, 587), ({"SMTP_PORT": "465"}, Tls.IMPLICIT, 465), ({"SMTP_TLS": "none"}, Tls.NONE, 25),
    ({"SMTP_TLS": "TLS"}, Tls.IMPLICIT, 465),
])  # fmt: skip
def test_port_and_protection_fit_each_other(more, tls, port):
    smtp = read_settings({**RELAY, **more}, address=HERE).smtp

    assert (smtp.tls, smtp.port) == (tls, port)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({**RELAY, "SMTP_PORT": "many"}, "SMTP_PORT"),
        ({**RELAY, "SMTP_PORT": "0"}, "SMTP_PORT"),
        ({**RELAY, "SMTP_PORT": "70000"}, "SMTP_PORT"),
        ({**RELAY, "SMTP_TLS": "yes"}, "SMTP_TLS"),
        ({**RELAY, "SMTP_TLS": "none", "SMTP_USER": "ada"}, "in clear"),
        ({"SMTP_HOST": "mail.example.org"}, "SMTP_FROM"),
        ({**RELAY, "SMTP_FROM": "nobody"}, "SMTP_FROM"),
        ({**RELAY, "SMTP_FROM": "A <a@b.org>, B <b@b.org>"}, "SMTP_FROM"),
        ({**RELAY, "SMTP_FROM": "A\nBcc: x <a@b.org>"}, "SMTP_FROM"),
        ({"PUBLIC_URL": "javascript:alert(1)"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "app.example.org"}, "PUBLIC_URL"),
        ({"WORKER": "maybe"}, "WORKER"),
        ({"CONCURRENCY": "-1"}, "CONCURRENCY"),
        ({"PRODUCT": "a\r\nb"}, "PRODUCT"),
    ],
)
def test_a_wrong_setting_is_named(environment, said):
    with pytest.raises(OptionError, match=said):
        read_settings(environment, address=HERE)


def test_limits_and_the_place_of_bounces_are_said(tmp_path):
    environment = {
        "SMTP_RATE": "600", "DOMAIN_RATE": "60", "BOUNCE_DOMAIN": "Bounces.Example.org", "BOUNCE_MAILDIR": str(tmp_path)
    }  # fmt: skip

    settings = read_settings(environment, address=HERE)

    assert (settings.rate, settings.domain_rate) == (Rate(600, per=60), Rate(60, per=60))
    assert (settings.bounce_domain, settings.bounce_maildir) == ("bounces.example.org", tmp_path)
    with pytest.raises(OptionError, match="BOUNCE_DOMAIN"):
        read_settings({"BOUNCE_DOMAIN": "no domain"}, address=HERE)


def test_a_signature_is_said_by_selector_and_key(tmp_path):
    key = rsa.generate_private_key(65_537, 2_048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()  # fmt: skip
    file = tmp_path / "dkim.pem"
    file.write_text(key)
    relay = {**RELAY, "SMTP_FROM": "Tundra <no-reply@mail.example.org>", "DKIM_SELECTOR": "2026a"}

    signer = read_settings({**relay, "DKIM_KEY_FILE": str(file)}, address=HERE).dkim
    in_one_line = read_settings(
        {**relay, "DKIM_KEY": key.replace("\n", "\\n"), "DKIM_DOMAIN": "example.org"}, address=HERE
    ).dkim

    assert signer is not None
    assert (signer.domain, signer.selector) == ("mail.example.org", "2026a")
    assert in_one_line == replace(signer, domain="example.org")
    for wrong, said in (
        ({}, "DKIM_SELECTOR and one of DKIM_KEY_FILE and DKIM_KEY"),
        ({"DKIM_KEY_FILE": str(tmp_path / "none.pem")}, "DKIM_KEY_FILE"),
        ({"DKIM_KEY": "secret"}, "DKIM_KEY.*no RSA private key"),
        ({"DKIM_KEY": key, "DKIM_DOMAIN": "elsewhere.example"}, "DKIM_DOMAIN is elsewhere.example"),
        ({"DKIM_KEY": key, "DKIM_SELECTOR": ""}, "DKIM_SELECTOR"),
    ):
        with pytest.raises(OptionError, match=said):
            read_settings({**relay, **wrong}, address=HERE)


def test_settings_are_read_from_dotenv_below_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PRODUCT=Tundra\nSMTP_HOST=below.example.org\n")
    monkeypatch.setenv("SMTP_HOST", "above.example.org")

    environment = read_environment()

    assert (environment["PRODUCT"], environment["SMTP_HOST"]) == ("Tundra", "above.example.org")


@pytest.mark.parametrize(("environment", "database", "shared"), [
    ({}, "", True),
    ({"MUSKOX_URL": "postgresql://db/jobs"}, "", True),
    ({"MUSKOX_URL": "postgresql://db/jobs", "DATABASE_URL": "postgresql://db/jobs"}, "postgresql://db/jobs", True),
    ({"MUSKOX_URL": "redis://db"}, "sqlite:///muskox.db", False),
    ({"MUSKOX_URL": "redis://db", "DATABASE_URL": "postgresql://db/app"}, "postgresql://db/app", False),
    ({"DATABASE_URL": "postgresql://db/app"}, "postgresql://db/app", False),
])  # fmt: skip
def test_users_are_beside_the_jobs_where_they_can_be(environment, database, shared):
    settings = read_settings(environment, address=HERE)

    assert (settings.database, settings.shared) == (database, shared)


@pytest.mark.parametrize("url", ["sqlite://:memory:", "sqlite://", "redis://localhost", "nonsense", "mysql://x/y"])
def test_a_store_that_cannot_share_a_transaction_is_refused_with_words(url):
    with pytest.raises(StoreUnsupported, match="MUSKOX_URL"):
        open_engine(url)


def test_security_s13_the_secret_is_made_once_and_is_for_its_owner_only(tmp_path):
    path = tmp_path / "muskox.secret"

    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda seed: key_in_file(path, FakeWorld(seed=seed)), range(8)))

    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["muskox.secret"]


@pytest.mark.parametrize("text", ["abcd\n", "", "no key at all\n"])
def test_a_file_that_holds_no_key_is_not_overwritten(tmp_path, text):
    path = tmp_path / "muskox.secret"
    path.write_text(text)

    with pytest.raises(OptionError, match="does not hold a key"):
        key_in_file(path, FakeWorld())
    assert path.read_text() == text


def test_a_secret_that_is_too_short_is_refused():
    with pytest.raises(OptionError, match="at least 16"):
        key_in_text("SECRET", "short")


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
    ("10.0.0.1", False), ("example.org", False),
])  # fmt: skip
def test_only_this_machine_reaches_a_loopback_address(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(("query", "level"), [("", 1), ("?durability=fsync", 2), ("?durability=default&patience=3", 1)])
def test_the_durability_of_the_jobs_holds_for_the_users_too(tmp_path, query, level):
    engine = open_engine(f"sqlite:///{tmp_path / 'muskox.db'}{query}")

    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == level
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one() == 0
    engine.dispose()
