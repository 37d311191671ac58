import pytest

from fapilog.exclusion import exclusion


def scope(path: object, method: str = "GET", **more: object) -> dict[str, object]:
    return {"type": "http", "method": method, "path": path, **more}


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/health/",
        "/health/db",
        "/healthz",
        "/ready",
        "/readyz",
        "/live",
        "/livez",
        "/metrics",
        "/favicon.ico",
    ],
)
def test_what_probes_ask_for_is_excluded_by_default(path: str) -> None:
    assert exclusion()(scope(path))


@pytest.mark.parametrize("path", ["/", "/healthy", "/orders/health", "/metrics/1", "/HEALTH", "", None, 7])
def test_nothing_else_is(path: object) -> None:
    assert not exclusion()(scope(path))


@pytest.mark.parametrize(
    ("entry", "method", "path", "excluded"),
    [
        ("/static", "GET", "/static", True),
        ("/static", "GET", "/static/a.css", False),
        ("/static/", "GET", "/static/a.css", True),
        ("/static/", "GET", "/statics", False),
        ("/api/*/poll", "GET", "/api/v1/orders/poll", True),
        ("/api/*/poll", "GET", "/api/v1/orders/polled", False),
        ("*.map", "GET", "/js/app.map", True),
        ("/v[12]/", "GET", "/v1/", True),
        ("OPTIONS", "OPTIONS", "/anything", True),
        ("options", "OPTIONS", "/anything", True),
        ("OPTIONS", "GET", "/anything", False),
        ("GET /polled", "GET", "/polled", True),
        ("GET /polled", "POST", "/polled", False),
        ("HEAD *", "HEAD", "/any/where", True),
        ("GET /below/", "GET", "/below/this", True),
    ],
)
def test_an_entry_is_a_path_a_prefix_a_glob_a_method_or_both(
    entry: str, method: str, path: str, excluded: bool
) -> None:
    assert exclusion([entry])(scope(path, method)) is excluded


def test_it_does_not_depend_on_where_a_proxy_has_put_the_application() -> None:
    assert exclusion()(scope("/shop/health", root_path="/shop"))
    assert exclusion()(scope("/health", root_path="/shop"))


@pytest.mark.parametrize("entry", ["", "a b", "GET polled", "h\u00e9", "7"])
def test_an_entry_that_is_neither_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is neither a path"):
        exclusion([entry])
