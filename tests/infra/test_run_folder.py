import json

import pytest

from infra.run_folder import claimed
from stream.config import Config
from stream.errors import UserError


def config_of(tmp_path, **tables) -> Config:
    run = {"name": "r", "dir": tmp_path} | tables.pop("run", {})
    return Config(run=run, **tables)


def test_a_new_run_keeps_its_configuration(tmp_path):
    with claimed(config_of(tmp_path, learner={"lr": 3e-4})) as folder:
        assert folder == tmp_path / "r"
        assert json.loads((folder / "config.json").read_text())["learner"]["lr"] == 3e-4


def test_the_same_configuration_resumes(tmp_path):
    for replicas in (1, 3):
        with claimed(config_of(tmp_path, producer={"replicas": replicas}, up={"report": replicas == 1})):
            pass
    assert json.loads((tmp_path / "r" / "config.json").read_text())["producer"]["replicas"] == 1


def test_another_configuration_is_refused_by_key_and_values(tmp_path):
    with claimed(config_of(tmp_path)):
        pass
    with pytest.raises(UserError, match=r"learner\.lr is 0\.5, there it is 0\.0002; choose another run\.name"):
        with claimed(config_of(tmp_path, learner={"lr": 0.5})):
            pass
    with pytest.raises(UserError, match=r"prompts\.options\.max_digits is 2"):
        with claimed(config_of(tmp_path, prompts={"options": {"max_digits": 2}})):
            pass


def test_a_mistake_leaves_the_name_of_a_new_run_free_and_an_old_run_as_it_is(tmp_path):
    for lr in (0.5, 0.25):
        with pytest.raises(UserError, match="no template"), claimed(config_of(tmp_path, learner={"lr": lr})):
            raise UserError("no template")
    with claimed(config_of(tmp_path, learner={"lr": 0.125})):
        pass
    with pytest.raises(UserError, match="no template"), claimed(config_of(tmp_path, learner={"lr": 0.125})):
        raise UserError("no template")
    assert json.loads((tmp_path / "r" / "config.json").read_text())["learner"]["lr"] == 0.125


def test_a_run_that_is_up_is_refused(tmp_path):
    with claimed(config_of(tmp_path)), pytest.raises(UserError, match=r"run r is up already \(pid \d+\)"):
        with claimed(config_of(tmp_path)):
            pass
    with claimed(config_of(tmp_path)):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be made: Not a directory"):
        with claimed(config_of(tmp_path, run={"dir": tmp_path / "file"})):
            pass


def test_a_broken_config_file_is_named(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read"), claimed(config_of(tmp_path)):
        pass
