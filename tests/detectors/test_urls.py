import pytest

from fapilog.processors.redact import Redact

REDACT = Redact()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://hunter2:x-oauth-basic@github.com", "https://REDACTED:x-oauth-basic@github.com"),
        ("postgres://ann:hunter2@db/shop", "postgres://ann:REDACTED@db/shop"),
        ("postgres://ann:hun@ter2@db/shop", "postgres://ann:REDACTED@db/shop"),
        ("postgres://ann:hun/ter2?@db/shop", "postgres://ann:REDACTED@db/shop"),
        ("redis://:hunter2@cache:6379/0", "redis://:REDACTED@cache:6379/0"),
        ("mongodb+srv://ann:hunter2@db,db2/shop", "mongodb+srv://ann:REDACTED@db,db2/shop"),
        ("https://0123456789abcdef0123@sentry.test/1", "https://REDACTED@sentry.test/1"),
        ("https://shop.test/a?code=hunter2&page=2", "https://shop.test/a?code=REDACTED&page=2"),
        ("postgres://bob:hunter2'@db ok", "postgres://bob:REDACTED@db ok"),
        ("see postgres://bob:hunter2<+16 more>", "see postgres://bob:REDACTED<+16 more>"),
        ("ftp://bob:hunter2", "ftp://bob:REDACTED"),
        ("'mysql+pymysql://bob:hunter2' failed", "'mysql+pymysql://bob:REDACTED' failed"),
        ("https://bob:hunter2 ...", "https://bob:REDACTED ..."),
        ("/a?next=%2Fb%3Ftoken%3Dhunter2&page=2", "/a?next=REDACTED&page=2"),
        ("/a#access_token=hunter2&b=1", "/a#access_token=REDACTED&b=1"),
        ("see /a?X-Amz-Signature=hunter2 now", "see /a?X-Amz-Signature=REDACTED now"),
    ],
)
def test_a_secret_in_a_url_is_told_by_its_place_or_its_parameter(text: str, kept: str) -> None:
    assert REDACT.text(text) == kept
    assert "hunter2" not in REDACT.text(f"before: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "https://shop.test:8080/a@b?page=2",
        "https://git@github.com/x",
        "ssh://git@github.com:22/x",
        "http://a/@b",
        "see http://shop.test/@ann/token",
        "http://host:80<+16 more>",
        "postgres://host:port",
        "redis://[::1]:6379",
        "mongodb://h1:27017,h2:27017",
        "redis://cache:6379.",
        "docker://nginx:latest",
        "ldap://{host}:{port}",
        "http://localhost:PORT",
    ],
)
def test_what_is_no_secret_of_a_url_stays(text: str) -> None:
    assert REDACT.text(text) == text
