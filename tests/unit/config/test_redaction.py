from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from besom.config import redaction
from besom.config.redaction import (
    environment_unread,
    hidden_in,
    hidden_keys,
    learn,
    names_a_secret,
    redact,
    redacted,
    redacted_override,
    restore_password,
    stash_password,
)
from besom.errors import InputError


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(redaction, "_known", set())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/runs", "postgresql://me:***@host:5432/runs"),
        ("postgresql://me:s:ec@ret@host/runs", "postgresql://me:***@host/runs"),
        ("postgresql+psycopg://:secret@host/runs", "postgresql+psycopg://:***@host/runs"),
        ("postgresql:///runs?host=host&password=secret&user=me", "postgresql:///runs?host=host&password=***&user=me"),
        ("postgresql://me@host:5432/runs", "postgresql://me@host:5432/runs"),
        ("sqlite:///runs.db", "sqlite:///runs.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host:5432/runs",
        "postgresql://me:s:ec@ret@host/runs",
        "postgresql:///runs?host=host&password=secret&user=me",
    ],
)
def test_a_hidden_password_is_put_back_where_it_is_needed(url, monkeypatch):
    monkeypatch.setattr("os.environ", {})

    hidden = stash_password(url)

    assert "ret" not in hidden
    assert restore_password(hidden) == url


def test_a_password_that_was_never_told_is_asked_for(monkeypatch):
    monkeypatch.setattr("os.environ", {})

    with pytest.raises(InputError, match=r"postgresql://me:\*\*\*@host/runs: its password is not known here"):
        restore_password("postgresql://me:***@host/runs")


@pytest.mark.parametrize(
    "key", ["password", "db.password", "wandb.api_key", "apiKey", "hf-token", "secrets.aws.id", "AWS_SECRET_ACCESS_KEY"]
)
def test_a_key_that_names_a_secret_is_known(key):
    assert names_a_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        *("github_pat", "http.authorization", "passcode", "session_cookie", "jwt", "auth.bearer", "aws.creds", "sig"),
        *("signing_key", "Password", "DB_PWD", "private-keys", "accessToken", "wandb_token"),
    ],
)
def test_other_names_of_secrets_are_known(key):
    assert names_a_secret(key)
    assert names_a_secret(key, 123456)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.label_key", "label"),
        ("data.label_key", "annotation_2024_final"),
        ("model.pool_token", "cls"),
        ("dataset.keys", "image"),
        ("tokenizer.pad_token", "<pad>"),
        ("sort.key", "val/acc"),
        ("model.pass", "forward"),
        ("model.d_key", 64),
    ],
)
def test_an_ordinary_value_of_a_key_that_may_name_a_secret_is_none(key, value):
    assert not names_a_secret(key, value)
    assert redacted_override(f"{key}={value}") == f"{key}={value}"


@pytest.mark.parametrize(
    "value", ["ghp_16C7e42F292c6912E7710c8", "sk-abc", "Zx81kLm20QpRt6Wq", "9f86d081884c7d659a2feaa0"]
)
def test_a_value_made_by_an_issuer_of_secrets_is_one_under_such_a_key(value):
    assert names_a_secret("my.token", value)


@pytest.mark.parametrize("key", ["monkey", "model.token_dim", "keypoints", "optimizer.lr", "author", "passes"])
def test_a_key_that_only_sounds_like_it_is_not(key):
    assert not names_a_secret(key)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("db.password=hunter2", "db.password=***"),
        ("+db.password=1234", "+db.password=***"),
        ("attention.d_key=64", "attention.d_key=64"),
        ("api_key=${oc.env:API_KEY}", "api_key=${oc.env:API_KEY}"),
        ("db={user: me, password: hunter2}", "db={user: me, password: ***}"),
        ("db.url=postgresql://me:hunter2@host/db", "db.url=postgresql://me:***@host/db"),
        ("model.activation=choice(relu,gelu)", "model.activation=choice(relu,gelu)"),
        ("--config-name", "--config-name"),
        ("db={user: me, password: 'a,b}c'}", "db={user: me, password: '***'}"),
        ('db={user: me, password: "a,b}c", port: 1}', 'db={user: me, password: "***", port: 1}'),
        ("api_keys=[one,two]", "api_keys=***"),
        ("wandb={api_keys: [one1, two2]}", "wandb={api_keys: [***, ***]}"),
        ("api_key=12345", "api_key=***"),
        ("db.url='http://host/?user=me&sig=abc'", "db.url='http://host/?user=me&sig=***'"),
        ("db.dsn=http://host?Password=abc", "db.dsn=http://host?Password=***"),
    ],
)
def test_an_override_is_shown_without_its_secrets(given, shown):
    assert redacted_override(given) == shown


def test_a_config_is_written_without_its_secrets(monkeypatch):
    monkeypatch.setenv("SOME", "hunter2")
    config = OmegaConf.create(
        {
            "db": {"password": "hunter2", "url": "http://me:hunter2@host", "user": "me", "port": 1},
            "from_outside": "${oc.env:SOME}",
            "by_way_of": "${from_outside}",
            "hydra": {"overrides": {"task": ["db.password=hunter2"]}},
        }
    )

    written = redacted(config)

    assert "hunter2" not in str(written)
    assert written["db"] == {"password": "***", "url": "http://me:***@host", "user": "me", "port": 1}
    assert written["by_way_of"] == "${from_outside}"
    assert list(hidden_keys(OmegaConf.create(written))) == ["db.password", "db.url"]


def test_what_comes_from_the_environment_stays_a_name(monkeypatch):
    monkeypatch.setenv("SOME", "hunter2")
    monkeypatch.delenv("OTHER", raising=False)
    config = OmegaConf.create({"a": "${oc.env:SOME}", "b": "x-${a}-${oc.env:OTHER,there}"})

    with environment_unread():
        resolved = OmegaConf.to_container(config, resolve=True)

    assert resolved == {"a": "${oc.env:SOME}", "b": "x-${oc.env:SOME}-there"}
    assert config.a == "hunter2"


def test_what_is_known_to_be_secret_is_taken_out_of_every_text(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "from-outside")
    monkeypatch.setenv("HOME", "/home/me")
    config = {
        "db": {"password": "hunter2", "port": 1},
        "api_keys": ["first-one", "second-one"],
        "pin": {"passcode": 4711},
    }
    learn(OmegaConf.create({**config, "key": "${oc.env:MY_API_KEY}", "home": "${oc.env:HOME}"}))

    said = redact("hunter2 hunter2000 first-one second-one 4711 from-outside /home/me")

    assert said == "*** hunter2000 *** *** *** *** /home/me"


def test_a_password_that_is_a_word_of_its_url_does_not_spoil_it(monkeypatch):
    monkeypatch.setattr("os.environ", {})
    url = "postgresql://postgres:postgres@host/postgres"
    hidden = stash_password(url)

    assert restore_password(hidden) == url
    assert stash_password(url) == hidden
    assert redact("postgresql is away").startswith("postgresql")


def test_it_is_said_which_keys_were_hidden():
    assert hidden_in(["lr=0.1", "+db.password=***", "wandb={api_key: ***}"]) == ["db.password", "wandb"]
