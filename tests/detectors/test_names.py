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
        ("X-CSRFToken", "field:*_token"),
        ("PHP-Auth-PW", "field:*_pw"),
        ("PGPASSWORD", "field:pgpassword"),
        ("totp", "field:totp"),
        ("hmac_key", "field:hmac_key"),
        ("private_key_pem", "field:private_key_pem"),
        ("creds", "field:creds"),
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


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("tokens", "t-1", "field:tokens"),
        ("access_tokens", ["t-1"], "field:tokens"),
        ("tokens", 120, None),
        ("max_tokens", 5, None),
        ("prompt_tokens", "1,024", None),
        ("tokens", [1, 2], None),
        ("tokens", {"input": 5}, None),
        ("auth", "hunter2", "field:auth"),
        ("auth", ["ann", "hunter2"], "field:auth"),
        ("auth", {"user": "ann"}, None),
        ("auth", True, None),
        ("auth", "Basic", None),
        ("auth0", "tenant", None),
        ("pin", "4711", "field:pin"),
        ("pin", 4711, "field:pin"),
        ("pin", "hunter2", "field:pin"),
        ("pin", 17, None),
        ("pin", "GPIO17", None),
        ("pin13", 1, None),
        ("sms_token", 123456, "field:*_token"),
        ("next_token", "opaque", "field:*_token"),
        ("next_token", 17, None),
        ("eos_token", 50256, None),
        ("time_to_first_token", 0.4, None),
        ("token", 123456, "field:token"),
    ],
)
def test_under_some_names_the_value_decides(name: str, value: object, rule: str | None) -> None:
    assert Names().under(name, value) == rule
    assert Names(keep=[name]).under(name, value) is None
    assert Names(defaults=False).under(name, value) is None


def test_a_vague_name_of_the_user_s_is_always_secret() -> None:
    assert Names(["tokens"]).under("tokens", 120) == "field:tokens"
