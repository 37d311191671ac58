import base64

import pytest

from fapilog.detectors.credentials import CREDENTIALS
from fapilog.processors.redact import Redact

REDACT = Redact()
HEX32 = "0123456789abcdef" * 2
MIXED = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hL"
BLOCK = "-----BEGIN {0}PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nx7Qz\n-----END {0}PRIVATE KEY-----"

SECRETS = [
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123_-x"),
    ("jwt", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."),
    ("bearer", "Bearer abc123"),
    ("bearer", "bearer ABCDEFGH"),
    ("bearer", "BEARER a.b-c_d~e+f/g="),
    ("bearer", "Bearer%20abc123xyz"),
    ("basic", "Basic " + base64.b64encode(b"ann:hunter2").decode()),
    ("basic", "basic " + base64.b64encode(b"a:b").decode()),
    ("aws_key", "AKIAIOSFODNN7EXAMPLE"),
    ("aws_key", "ASIAIOSFODNN7EXAMPLE"),
    *[("github", f"gh{kind}_{MIXED}") for kind in "pousr"],
    ("github", f"github_pat_11ABCDE_{MIXED}"),
    ("gitlab", f"glpat-{MIXED[:20]}"),
    ("gitlab", f"gldt-{MIXED[:20]}"),
    ("slack", "xoxb-123456789012-abcdefABCDEF"),
    ("slack", "xoxe.xoxp-1-abcdefABCDEF12"),
    ("slack", "xapp-1-A012345-6789-abcdef"),
    ("webhook_url", f"https://hooks.slack.com/services/T0000/B0000/{MIXED[:24]}"),
    ("webhook_url", f"https://discord.com/api/webhooks/123456/{MIXED}"),
    ("stripe", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
    ("stripe", "rk_test_4eC39HqLyjWDarjtT1zdp7dc"),
    ("stripe", f"whsec_{MIXED}"),
    ("google", f"AIza{MIXED}abc"),
    ("google", f"ya29.{MIXED}"),
    ("google", f"GOCSPX-{MIXED[:28]}"),
    ("azure", f"abc8Q~{MIXED}"),
    ("openai", f"sk-proj-{MIXED}"),
    ("openai", f"sk-ant-api03-{MIXED}"),
    ("npm", f"npm_{MIXED}abcd"),
    ("pypi", f"pypi-AgEIcHlwaS5vcmc{MIXED}"),
    ("huggingface", f"hf_{MIXED}"),
    ("sendgrid", f"SG.{MIXED[:22]}.{MIXED}"),
    ("twilio", f"SK{HEX32}"),
    ("mailgun", f"key-{HEX32}"),
    ("telegram", f"123456789:AA{MIXED}a"),
    ("shopify", f"shpat_{HEX32}"),
    ("digitalocean", f"dop_v1_{HEX32}{HEX32}"),
    ("vault", f"hvs.{MIXED}"),
    ("databricks", f"dapi{HEX32}"),
    ("atlassian", f"ATATT3{MIXED}"),
    ("age", f"AGE-SECRET-KEY-1{MIXED.upper()}"),
    ("vendor_token", f"dckr_pat_{MIXED}"),
    ("vendor_token", f"glsa_{MIXED}"),
    ("vendor_token", f"r8_{MIXED}abcde"),
    ("vendor_token", f"pul-{HEX32}01234567"),
    ("vendor_token", f"xkeysib-{HEX32}{HEX32}-{HEX32[:16]}"),
    ("slack", "xoxp-1234567890-abcdefghij"),
    ("openai", "sk-proj-aB3_dE6-gH9jK-2mN5p_Q8sT1"),
    ("mailgun", f"key-{HEX32}"),
    *[("private_key", BLOCK.format(kind)) for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")],
    ("private_key", BLOCK.format("").replace("\n", "\\n")),
]
HARMLESS = [
    "Bearer of bad news",
    "Bearer token expired",
    "bearer authentication is required",
    "Bearer scheme",
    "Basic authentication",
    "basic understanding of things",
    "Basic YWJj",
    "the eyJ prefix",
    "eyJabc.def",
    "AKIA is a prefix",
    "AKIAIOSFODNN7EXAMPLEX",
    "xakiaiosfodnn7example",
    "ghp_short",
    "a_ghp_table",
    "glpat-",
    "xoxo-hugs",
    "sk_live",
    "task_live_coding_session",
    "risk-assessment-for-the-whole-company",
    "sk-learn-is-a-library-of-python",
    "disk-usage-0123456789-0123456789",
    "key-value",
    f"cache-key-{HEX32}",
    f"idempotency-key-{HEX32}",
    f"cache_key-{HEX32}",
    "ion_exchange_chromatography_results",
    "pul-request-number-12345-merged-by-ann",
    "cluster_r8_large_instances_in_region",
    "r8_large_instances_in_region_2024",
    "sk-SK-kosice-region-dataset-2024",
    "sk-learn-pipeline-v2-of-2024-10-15",
    "xoxo-hugs-and-kisses-2024",
    "SKU0123456789",
    HEX32,
    HEX32[:16],
    "550e8400-e29b-41d4-a716-446655440000",
    "2026-11-20T12:30:45.123456Z",
    "sha256:" + HEX32 * 2,
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "npm_config_registry",
    "hf_transfer",
    "SG.1.2",
    "12:AA:bb",
    "https://hooks.slack.com/services/",
    "the dsn of the shop",
]


def test_every_detector_is_tried() -> None:
    assert {name for name, _ in SECRETS} == {each.name for each in CREDENTIALS}


@pytest.mark.parametrize(("rule", "secret"), SECRETS)
@pytest.mark.parametrize(
    "around", ["{}", "sent {} to it", '{{"x": "{}"}}', "({})", "{}, and", "x\n{}\ny", "'{}'", "v={};"]
)
def test_a_credential_is_found_wherever_it_stands(rule: str, secret: str, around: str) -> None:
    text = REDACT.text(around.format(secret))
    value = secret.rsplit(" ", maxsplit=1)[-1] if rule in ("bearer", "basic") else secret
    assert value not in text
    assert f"<redacted:{rule}>" in text
    assert [each.rule for each in REDACT.explain({"x": around.format(secret)})] == [rule]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_resembles_a_credential_stays(text: str) -> None:
    assert REDACT.text(text) == text


def test_a_block_that_was_cut_is_taken_out_as_far_as_it_is_there() -> None:
    assert "MII" not in REDACT.text(BLOCK.format("RSA ").partition("-----END")[0])
    assert "MII" not in REDACT.text("kept " + BLOCK.format("").partition("KEY-----")[2])
    assert REDACT.text("one " + BLOCK.format("") + " two") == "one <redacted:private_key> two"


def test_a_credential_of_which_only_the_beginning_is_left_is_taken_out() -> None:
    assert REDACT.text("see ghp_abc<+99 more>") == "see <redacted:cut><+99 more>"
