import pytest

from fapilog.processors.redact import Redact

REDACT = Redact()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "| user | password | n |\n|------|:--------:|---|\n| ann | hunter2 | 3 |\n| bob | hunter2 | 4 |\nbye",
            "| user | password | n |\n|------|:--------:|---|\n| ann | REDACTED | 3 |\n| bob | REDACTED | 4 |\nbye",
        ),
        ("a table:\n\nuser | token\n--- | ---\nann | hunter2", "a table:\n\nuser | token\n--- | ---\nann | REDACTED"),
        ("| password |\r\n|---|\r\n| hunter2 |\r\n", "| password |\r\n|---|\r\n| REDACTED |\r\n"),
        ("| **password** |\n|---|\n| `hunter2` |", "| **password** |\n|---|\n| `REDACTED` |"),
        ("| password |\n|---|\n| a\\|hunter2 |", "| password |\n|---|\n| REDACTED |"),
        ("| password | n |\n| hunter2 |  |", "| password | n |\n| REDACTED |  |"),
        (
            "+------+----------+\n| user | password |\n+------+----------+\n| ann  | hunter2  |\n+------+----------+",
            "+------+----------+\n| user | password |\n+------+----------+\n| ann  | REDACTED  |\n+------+----------+",
        ),
        (
            " user | password \n------+----------\n ann  | hunter2\n bob  | \n(2 rows)",
            " user | password \n------+----------\n ann  | REDACTED\n bob  | \n(2 rows)",
        ),
        (
            "| name | value |\n|---|---|\n| colour | red |\n| db_password | hunter2 |",
            "| name | value |\n|---|---|\n| colour | red |\n| db_password | REDACTED |",
        ),
        ("user,password\nann,hunter2\nbob,hunter2\n", "user,password\nann,REDACTED\nbob,REDACTED\n"),
        ('user,password\n"lee, ann","hun""ter2, hunter2"', 'user,password\n"lee, ann","REDACTED"'),
        ("a;api-key;b\n1;hunter2;2", "a;api-key;b\n1;REDACTED;2"),
        ("user\tpassword\nann\thunter2", "user\tpassword\nann\tREDACTED"),
    ],
)
def test_a_secret_in_a_table_is_told_by_its_column(text: str, kept: str) -> None:
    assert REDACT.text(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "| name | type |\n|---|---|\n| password | string |\n| token | string |",
        "| user | password |",
        "| user | password |\n|---|---|\n| ann | None |\n",
        "INFO | token | started\nINFO | cache | stopped",
        "2026-01-02 | auth | token\n2026-01-02 | db | query",
        "Hello, token\nGoodbye, friend",
        "missing: user,password\nretry,later",
        "id,name\n1,ann",
        "fields:\n  password,token\n  name,age\n",
        "user,password\n",
        "user,password\nall of it is missing",
        "| name | value |\n|---|---|\n| colour | red |",
    ],
)
def test_what_is_no_table_of_secrets_stays(text: str) -> None:
    assert REDACT.text(text) == text
