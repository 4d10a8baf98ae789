"""Passwords are looked up when a process connects, and no copy of a configuration holds one."""

import pytest

from infra.run_folder import claimed
from stream.config import Config, load
from stream.config.secrets import resolved, shown
from stream.errors import ConfigError, UserError
from tracker.sinks import public

PASSWORD = "hunter2-of-the-broker"


def test_a_reference_is_looked_up_in_the_environment_or_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    settings = {"sasl_plain_username": {"env": "NAME"}, "sasl_plain_password": {"file": str(file)}, "retries": 3}
    assert resolved(settings, {"NAME": "me"}) == {
        "sasl_plain_username": "me", "sasl_plain_password": PASSWORD, "retries": 3,
    }  # fmt: skip


def test_what_a_reference_does_not_find_is_named(tmp_path):
    with pytest.raises(UserError, match=r"takes sasl_plain_password from the environment variable P, which is not set"):
        resolved({"sasl_plain_password": {"env": "P"}}, {"P": ""})
    with pytest.raises(UserError, match=r"none, which cannot be read \(No such file or directory\)"):
        resolved({"ssl_password": {"file": str(tmp_path / "none")}}, {})


def test_what_is_shown_holds_references_but_no_password():
    settings = {"sasl_plain_username": "me", "sasl_plain_password": PASSWORD, "ssl_password": {"env": "P"}}
    assert shown(settings) == {
        "sasl_plain_username": "me", "sasl_plain_password": "(not shown)", "ssl_password": {"env": "P"},
    }  # fmt: skip


def recipe_with_a_password(folder):
    file = folder / "recipe.toml"
    file.write_text(
        f'[run]\nname = "r"\ndir = "{folder}"\n[broker]\nbootstrap_servers = "localhost:1"\n'
        f'settings = {{ security_protocol = "SASL_SSL", sasl_plain_password = "{PASSWORD}" }}\n'
    )
    return file


def test_no_copy_of_a_configuration_holds_a_password(tmp_path):
    config = load(recipe_with_a_password(tmp_path))
    assert config.broker.settings["sasl_plain_password"] == PASSWORD
    with claimed(config) as folder:
        copies = [file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()]
    assert any('"(not shown)"' in copy for copy in copies)
    copies += [repr(config), str(config), str(public(config)), config.model_dump_json()]
    assert [copy for copy in copies if PASSWORD in copy] == []


def test_a_run_is_resumed_with_another_password_or_user(tmp_path):
    folders = []
    for settings in ({}, {"sasl_plain_password": {"env": "P"}}, {"sasl_plain_password": PASSWORD}):
        with claimed(Config(run={"name": "r", "dir": tmp_path}, broker={"settings": settings})) as folder:
            folders.append(folder)
    assert folders == [tmp_path / "r"] * 3


@pytest.mark.parametrize("settings", [f'"{PASSWORD}"', f'{{ sasl_plain_password = ["{PASSWORD}"] }}',
                                      f'{{ sasl_plain_password = {{ env = "P", value = "{PASSWORD}" }} }}',
                                      f'{{ sasl_plain_password = {{ environment = "{PASSWORD}" }} }}'])  # fmt: skip
def test_a_mistake_in_the_settings_is_named_without_their_values(tmp_path, settings):
    file = tmp_path / "recipe.toml"
    file.write_text(f"[broker]\nsettings = {settings}\n")
    with pytest.raises(ConfigError, match=r"broker\.settings is not shown: ") as error:
        load(file)
    assert PASSWORD not in str(error.value)


def test_a_password_on_the_command_line_is_refused_and_a_reference_taken(tmp_path):
    recipe = recipe_with_a_password(tmp_path)
    given = f'--broker.settings={{"sasl_plain_password": "{PASSWORD}"}}'
    with pytest.raises(ConfigError, match=r"has sasl_plain_password in plain text") as error:
        load(recipe, [given])
    assert PASSWORD not in str(error.value)
    config = load(recipe, ["--broker.settings", '{"sasl_plain_password": {"env": "P"}}'])
    assert config.broker.settings == {"sasl_plain_password": {"env": "P"}}
