"""TLS to the provider, S3 and PostgreSQL: real servers with certificates, refused unless their CA is the one that is trusted.

Where the system keeps the CAs that it trusts does not matter here: SSL_CERT_FILE stands in for it, with the right CA or
another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from condvest.app import App
from condvest.config import load_settings
from condvest.demo.standin import StandIn
from condvest.domain.answers import SessionAnswer, SessionRefusal
from condvest.errors import CondvestError, ConfigError
from condvest.sources.flat_files import FlatFileSource
from condvest.sources.polygon import PolygonSource
from condvest.storage import objects
from condvest.storage.opening import open_store
from condvest.storage.pacing import Patience
from integration.jobs_kit import DAYS, QUICK, market_of
from servers.postgres import PASSWORD, USER, PostgresServer, running_postgres_server, speaks_tls
from servers.seaweed import BUCKET, S3Server
from servers.tls import Certificate, Certificates, Front, make_certificates, running_front

DAY = DAYS[0]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA, what it signed, and a CA that signed nothing."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make one CA the only one that this process trusts."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    def only(ca: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))

    return only


def refused(certificates: Certificates) -> list[tuple[Path, Certificate]]:
    """Return what a client must refuse: the CA that it trusts, and a certificate of an unknown signer or of another host."""
    return [(certificates.other_ca, certificates.here), (certificates.ca, certificates.elsewhere)]


# --- the provider -----------------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[StandIn]:
    """The stand-in, in clear, behind a front."""
    with StandIn(market_of(DAYS[:1])) as running:
        yield running


def ask(front: Front, key: str) -> SessionAnswer | SessionRefusal:
    """Ask the provider behind a front for one session."""
    address = f"https://127.0.0.1:{front.port}"
    with PolygonSource(address, key, requests_per_minute=0, retry=QUICK, timeout_seconds=5) as source:
        return next(source.fetch_sessions([DAY]))


def test_the_provider_is_asked_over_checked_tls_alone(
    provider: StandIn, certificates: Certificates, trust: Callable[[Path], None]
) -> None:
    """With a certificate that is not trusted, or another host's, no request leaves; with the right one all is well."""
    for ca, shown in refused(certificates):
        trust(ca)
        with running_front(urlsplit(provider.url).port or 0, shown) as front:
            with pytest.raises(
                ConfigError, match=r"^POLYGON_BASE_URL: the certificate of 127\.0\.0\.1 was refused"
            ) as caught:
                ask(front, provider.api_key)
            assert "SSL_CERT_FILE" in str(caught.value)
            assert (front.greeted, front.let_through, provider.requests) == (1, 0, [])
    trust(certificates.ca)
    with running_front(urlsplit(provider.url).port or 0, certificates.here) as front:
        assert isinstance(ask(front, provider.api_key), SessionAnswer)


def test_flat_files_are_fetched_over_checked_tls_alone(
    provider: StandIn, certificates: Certificates, trust: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the S3 endpoint of the flat files, whatever the environment allows for other buckets."""
    monkeypatch.setenv("AWS_ALLOW_INVALID_CERTIFICATES", "true")
    for ca, shown in refused(certificates):
        trust(ca)
        with running_front(urlsplit(provider.url).port or 0, shown) as front:
            source = FlatFileSource(
                access_key_id="id", secret_access_key="secret", endpoint=f"https://127.0.0.1:{front.port}", retry=QUICK
            )
            with pytest.raises(ConfigError, match="POLYGON_FLAT_FILES_ENDPOINT: the certificate of"):
                next(source.fetch_sessions([date(2024, 3, 6)]))
            assert (front.greeted, front.let_through) == (1, 0)
    trust(certificates.ca)
    with running_front(urlsplit(provider.url).port or 0, certificates.here) as front:
        source = FlatFileSource(
            access_key_id="id", secret_access_key="secret", endpoint=f"https://127.0.0.1:{front.port}", retry=QUICK
        )
        with pytest.raises(ConfigError, match="unauthorized"):  # the stand-in heard the request; it knows no S3
            next(source.fetch_sessions([date(2024, 3, 6)]))
        assert front.let_through >= 1


# --- S3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.s3
def test_s3_is_spoken_to_over_checked_tls_alone(
    s3_server: S3Server,
    s3_url: str,
    certificates: Certificates,
    trust: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real server: nothing is sent where the certificate does not hold, and no variable of the client turns that off."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=1))
    monkeypatch.setenv("AWS_ALLOW_INVALID_CERTIFICATES", "true")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    port = urlsplit(s3_server.endpoint_url).port or 0
    for ca, shown in refused(certificates):
        trust(ca)
        with running_front(port, shown) as front:
            store = open_store(s3_url, endpoint_url=f"https://127.0.0.1:{front.port}")
            with pytest.raises(ConfigError, match=r"the server's certificate was refused \(\w+\).*SSL_CERT_FILE"):
                store.put("a", b"1")
            assert front.let_through == 0
    trust(certificates.ca)
    with running_front(port, certificates.here) as front:
        store = open_store(f"s3://{BUCKET}/tls", endpoint_url=f"https://127.0.0.1:{front.port}")
        assert store.put("a", b"1")
        assert store.get("a").data == b"1"
        assert front.let_through >= 1


@pytest.mark.s3
def test_s3_over_https_is_never_spoken_to_in_clear(
    s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without TLS at an https address gets no request."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=1))
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    store = open_store(s3_url, endpoint_url=s3_server.endpoint_url.replace("http://", "https://"))
    with pytest.raises(CondvestError):
        store.put("a", b"1")
    assert list(open_store(s3_url).list("")) == []


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(certificates: Certificates) -> Iterator[Callable[[Certificate], int]]:
    """Return the port of a PostgreSQL that shows a certificate: a server built with TLS, else a front before one without."""
    with ExitStack() as stack:
        plain: list[PostgresServer] = []

        def port(shown: Certificate) -> int:
            server = stack.enter_context(running_postgres_server(certificate=shown)) if not plain else plain[0]
            if not plain and speaks_tls(server):
                return server.port
            plain[:] = [server]
            return stack.enter_context(running_front(server.port, shown, asks_first=True)).port

        yield port


@pytest.fixture(scope="module")
def here(database: Callable[[Certificate], int], certificates: Certificates) -> int:
    """The port of a server with the right certificate."""
    return database(certificates.here)


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Open the state database that settings name, and return its address as it is shown."""
    monkeypatch.chdir(tmp_path)

    def opened(port: int, **settings: str) -> str:
        given = {
            "LAKE_URL": str(tmp_path / "lake"),
            "RDS_HOST": "127.0.0.1",
            "RDS_PORT": str(port),
            "RDS_DATABASE": "postgres",
            "RDS_USER": USER,
            "RDS_PASSWORD": PASSWORD,
        }
        with monkeypatch.context() as patch:
            for name, value in (given | settings).items():
                patch.setenv(name, value)
            with App(load_settings()) as app, app.open_state(migrate=True) as state:
                return state.url_shown

    return opened


@pytest.mark.postgres
def test_postgresql_is_checked_where_a_ca_is_given(
    here: int, database: Callable[[Certificate], int], certificates: Certificates, reach: Callable[..., str]
) -> None:
    """RDS_CA_FILE means verify-full: another CA or another host's certificate is refused, and no password is sent."""
    assert reach(here, RDS_CA_FILE=str(certificates.ca)).startswith("postgresql")
    assert reach(here, RDS_CA_FILE=str(certificates.ca), RDS_HOST="localhost").startswith("postgresql")
    with pytest.raises(ConfigError, match=r"certificate verify failed.*RDS_CA_FILE") as caught:
        reach(here, RDS_CA_FILE=str(certificates.other_ca))
    assert PASSWORD not in str(caught.value)
    other = database(certificates.elsewhere)
    with pytest.raises(ConfigError, match=r"certificate.*does not match host name"):
        reach(other, RDS_CA_FILE=str(certificates.ca))
    assert reach(other, RDS_CA_FILE=str(certificates.ca), RDS_SSLMODE="verify-ca").startswith("postgresql")


@pytest.mark.postgres
def test_postgresql_can_be_checked_against_the_system_s_cas(
    here: int, certificates: Certificates, reach: Callable[..., str], trust: Callable[[Path], None]
) -> None:
    """RDS_CA_FILE=system takes the CAs that the system trusts."""
    trust(certificates.ca)
    assert reach(here, RDS_CA_FILE="system").startswith("postgresql")
    trust(certificates.other_ca)
    with pytest.raises(ConfigError, match="certificate verify failed"):
        reach(here, RDS_CA_FILE="system")


@pytest.mark.postgres
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_postgresql_is_not_spoken_to_in_clear_where_tls_is_asked_for(
    postgres_server: PostgresServer, certificates: Certificates, reach: Callable[..., str], mode: str
) -> None:
    """A server that says that it has no TLS, as a man in the middle would, gets no password: nothing falls back."""
    ca = {} if mode == "require" else {"RDS_CA_FILE": str(certificates.ca)}
    with pytest.raises(ConfigError, match=r"server does not support SSL, but SSL was required.*RDS_SSLMODE"):
        reach(postgres_server.port, RDS_SSLMODE=mode, **ca)
