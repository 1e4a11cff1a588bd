import subprocess
import sys

import pytest

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer.search_space import Range
from trainer.study import MAX_FAILURES, Study, TrialStoppedError

SPACE = {"units": Range(8, 128), "dropout": Range(0.0, 0.6)}
FACTS = {"data_fingerprint": "abc", "plan": {"horizon": 24}, "levels": (0.1, 0.9)}
KILLED = """
import os, signal
from trainer.search_space import Range
from trainer.study import Study

def objective(running):
    running.report(1, 0.5)
    print(running.values["units"], running.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

Study({url!r}, name="s", facts={facts!r}, space={{"units": Range(8, 128), "dropout": Range(0.0, 0.6)}}, epochs=4, seed=1).search(3, objective, print)
"""


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/study.db"


def opened(url, *, facts=FACTS, seed=1, epochs=4):
    return Study(url, name="s", facts=facts, space=SPACE, epochs=epochs, seed=seed)


def far_from_half(running):
    return abs(running.values["dropout"] - 0.5)


def ignore(_trial):
    pass


def test_trials_of_earlier_calls_count(url):
    told = []
    assert not opened(url).search(2, far_from_half, told.append)
    again = opened(url)
    assert not again.search(3, far_from_half, told.append)
    assert not again.search(3, far_from_half, told.append)
    assert [trial.number for trial in told] == [0, 1, 2]
    assert again.n_finished == 3
    assert again.best.loss == min(trial.loss for trial in told)


def test_a_search_that_goes_on_draws_new_values(url):
    opened(url).search(2, far_from_half, ignore)
    again = opened(url)
    again.search(4, far_from_half, ignore)
    assert len({trial.values["dropout"] for trial in again.trials}) == 4


def test_enqueued_values_come_first_and_once(url):
    for _ in range(2):
        study = opened(url)
        study.enqueue({"units": 32, "dropout": 0.3})
        study.search(2, far_from_half, ignore)
    assert [trial.values["units"] == 32 for trial in study.trials] == [True, False]


def test_a_killed_trial_fails_and_is_done_again_in_its_folder(url):
    code = KILLED.format(url=url, facts=FACTS)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    units, folder = killed.stdout.split()
    study = opened(url)
    assert [trial.state for trial in study.trials] == ["fail"]
    study.search(3, far_from_half, ignore)
    assert [trial.state for trial in study.trials] == ["fail", "complete", "complete", "complete"]
    again = study.trials[1]
    assert (str(again.values["units"]), again.folder) == (units, folder)
    assert len({trial.folder for trial in study.trials[1:]}) == 3


def test_a_trial_of_a_process_that_lives_is_left_alone(url):
    first = opened(url)

    def look_from_elsewhere(running):
        assert [trial.state for trial in opened(url).trials] == ["running"]
        return 1.0

    first.search(1, look_from_elsewhere, ignore)
    assert [trial.state for trial in first.trials] == ["complete"]


def test_a_trial_stopped_by_hand_is_done_again(url):
    def stop(running):
        raise TrialStoppedError(running.number)

    study = opened(url)
    assert study.search(1, stop, ignore)
    assert (study.n_finished, study.best) == (0, None)
    again = opened(url)
    again.search(1, far_from_half, ignore)
    assert [trial.state for trial in again.trials] == ["fail", "complete"]
    assert again.trials[1].values == again.trials[0].values


def test_a_trial_worse_than_the_median_is_pruned(url):
    def objective(running):
        level = 1.0 if running.number < 5 else 2.0
        for epoch in range(1, 5):
            running.report(epoch, level / epoch)
        return level / 4

    study = opened(url)
    study.search(6, objective, ignore)
    last = study.trials[-1]
    assert (last.state, last.epochs, last.loss) == ("pruned", 1, 2.0)
    assert study.best.number == 0


def test_one_failure_is_passed_over_and_many_end_the_search(url):
    def fail_once(running):
        if running.number == 0:
            raise TrainingError("the loss became nan")
        return 1.0

    study = opened(url)
    study.search(1, fail_once, ignore)
    assert [trial.state for trial in study.trials] == ["fail", "complete"]

    def fail(_running):
        raise TrainingError("no")

    with pytest.raises(TrainingError, match=f"the last {MAX_FAILURES} trials failed"):
        study.search(9, fail, ignore)


def test_a_study_of_other_data_is_refused(url):
    opened(url)
    with pytest.raises(ConfigError, match="data_fingerprint was 'abc' and is now 'xyz'"):
        opened(url, facts={**FACTS, "data_fingerprint": "xyz"})


def test_importances_say_what_mattered(url):
    study = opened(url)
    assert study.importances() == {}
    study.search(12, lambda running: running.values["dropout"], ignore)
    importances = study.importances()
    assert sum(importances.values()) == pytest.approx(1.0)
    assert importances["dropout"] > importances["units"]


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/study.db", "postgresql://me:secret@127.0.0.1:1/study"])
def test_a_database_that_cannot_be_used_says_so_and_hides_passwords(url):
    with pytest.raises(TrainingError, match="cannot be used") as caught:
        opened(url)
    assert "secret" not in str(caught.value)
