import pytest

from fapilog.detectors.names import DEFAULT_FIELDS, SECRET_SUFFIXES, Names, squeezed, words


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("password", "field:password"),
        ("Pass-Word", "field:password"),
        ("password2", "field:password"),
        ("X-API-KEY", "field:*_api_key"),
        ("gatewayToken", "field:*_token"),
        ("authToken", "field:auth_token"),
        ("smtpPassword1", "field:*_password"),
        ("AWS_SECRET_ACCESS_KEY", "field:*_access_key"),
        ("x-forwarded-authorization", "field:*_authorization"),
        ("max_tokens", None),
        ("tokens", None),
        ("author", None),
        ("authorized", None),
        ("secretary", None),
        ("token_count", None),
        ("password_changed_at", None),
        ("key", None),
        ("monkey", None),
        ("", None),
        ("пароль", None),
    ],
)
def test_a_name_is_secret_as_a_whole_or_by_its_end(name: str, rule: str | None) -> None:
    assert Names().rule(name) == rule


def test_a_name_in_another_script_is_its_own() -> None:
    names = Names(["пароль"])
    assert names.rule("Пароль") == "field:пароль"
    assert names.rule("поле") is None
    assert names.rule("") is None


def test_one_of_the_stems_is_in_every_secret_name() -> None:
    names = Names(["Tax-Number"])
    for name in (*DEFAULT_FIELDS, *(f"x{suffix}" for suffix in SECRET_SUFFIXES), "tax_number"):
        assert any(stem in squeezed(name) for stem in names.stems), name


def test_every_rule_a_name_can_have_is_known_from_the_start() -> None:
    names = Names(["tax", "a.b", "*_pin"])
    assert {names.rule(name) for name in ("password", "x_token", "tax", "card_pin")} <= set(names.rules)
    assert names.place(("a", "b")) in names.rules


def test_words_are_told_apart_however_they_are_joined() -> None:
    assert {words(said) for said in ("apiKey", "api-key", "API_KEY", "Api Key", "ApiKey")} == {"api_key"}
