import http.server
import socket
import sqlite3
import threading

import pytest
from matplotlib.figure import Figure

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer import tracking
from trainer.tracking import RunStart, flat, track

pytestmark = pytest.mark.filterwarnings("ignore")  # reading the store back: MLflow and SQLAlchemy warn about themselves


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A SQLite store for all tests here: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def start(tmp_path, store, request):
    """What is known of a run of an experiment named after the test."""

    def make(**changes):
        facts = {"parameters": {"units": 32, "split": {"days": [5, 3]}}, "tags": {"data_fingerprint": "abc"}, "tracking_uri": store}
        return RunStart(**{"folder": tmp_path / "run", "experiment": request.node.name, "name": "first", **facts, **changes})

    return make


@pytest.fixture
def read(store):
    """The run with this id as the store has it."""
    import mlflow

    return lambda run_id: mlflow.MlflowClient(store).get_run(run_id)


@pytest.fixture
def files(store):
    """Paths of a run's artefacts under one folder."""
    import mlflow

    return lambda run_id, folder: sorted(f.path for f in mlflow.MlflowClient(store).list_artifacts(run_id, folder))


def test_run_holds_parameters_metrics_and_tags(start, read):
    with track(start()) as run:
        run.log_epoch(1, {"loss": 2.0, "validation_loss": float("nan")})
        run.log_epoch(2, {"loss": 1.0, "validation_loss": 1.5})
        run.log_scores({"test": {"model": {"crps": 28.9, "n_values": 7}}})
        run.log_tags({"status": "finished"})
    found = read(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"units": "32", "split.days": "5, 3"}
    assert found.data.metrics == {"loss": 1.0, "validation_loss": 1.5, "test/model/crps": 28.9, "test/model/n_values": 7.0}
    tags = found.data.tags
    assert (tags["data_fingerprint"], tags["status"], tags["mlflow.runName"]) == ("abc", "finished", "first")
    assert {"git_commit", "version.keras", "version.python", "machine.cores"} <= tags.keys()


def test_epochs_are_steps_of_the_metric(start, store):
    import mlflow

    with track(start()) as run:
        for epoch, loss in enumerate([3.0, 2.0, 1.5], 1):
            run.log_epoch(epoch, {"loss": loss})
    history = mlflow.MlflowClient(store).get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0), (3, 1.5)]


def test_pictures_and_files_are_kept_and_checkpoints_are_not(start, files, tmp_path):
    with track(start()) as run:
        folder = tmp_path / "run"
        (folder / "checkpoint").mkdir()
        for name in ("run.json", "model.keras", "checkpoint/state.npz"):
            (folder / name).write_text("x")
        run.log_folder(folder)
        run.log_picture("loss", Figure(figsize=(1, 1)))
    assert files(run.id, "run") == ["run/model.keras", "run/run.json"]
    assert files(run.id, "pictures") == ["pictures/loss.png"]


def test_artefacts_lie_beside_the_store_and_not_in_the_current_folder(start, store, read, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with track(start()) as run:
        run.log_picture("loss", Figure(figsize=(1, 1)))
    beside = tracking.sqlite_path(store).parent / tracking.ARTEFACTS
    assert read(run.id).info.artifact_uri.startswith(beside.as_uri())
    assert not (tmp_path / "mlruns").exists()


def test_store_lies_beside_the_run_folder_by_default(start, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.tracking_uri(start(tracking_uri=None)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking.tracking_uri(start(tracking_uri=None)) == "http://tracking:5000"
    assert tracking.tracking_uri(start(tracking_uri="sqlite:///x.db")) == "sqlite:///x.db"


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_run_that_breaks_is_marked(start, read, error, status):
    with pytest.raises(error), track(start()) as run:
        raise error
    assert read(run.id).info.status == status


def test_run_stopped_by_hand_is_marked(start, read):
    with track(start()) as run:
        run.interrupted = True
    assert read(run.id).info.status == "KILLED"


def test_nested_runs_are_children_and_keep_their_own_metrics(start, read):
    with track(start()) as parent:
        with track(start(name="trial 1"), nested=True) as child:
            parent.log_epoch(1, {"best": 5.0})
            child.log_epoch(1, {"loss": 9.0})
        parent.log_epoch(2, {"best": 4.0})
    assert read(child.id).data.tags["mlflow.parentRunId"] == parent.id
    assert read(child.id).data.metrics == {"loss": 9.0}
    assert read(parent.id).data.metrics == {"best": 4.0}
    assert (read(parent.id).info.status, read(child.id).info.status) == ("FINISHED", "FINISHED")


def test_resuming_appends_to_the_same_run(start, read):
    with track(start()) as first:
        first.log_epoch(1, {"loss": 2.0})
    with track(start(resume=True, parameters={"units": 64, "added": 1})) as second:
        second.log_epoch(2, {"loss": 1.0})
    assert second.id == first.id
    found = read(first.id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert found.data.params == {"units": "32", "split.days": "5, 3", "added": "1"}  # MLflow's parameters are final
    assert found.data.tags["resumed.units"] == "64"


def test_new_run_in_the_same_folder_is_a_new_one(start):
    with track(start()) as first, pytest.raises(ZeroDivisionError):
        _ = 1 / 0
    with track(start()) as second:
        pass
    assert second.id != first.id


def test_resuming_in_another_store_starts_a_run_there(start, tmp_path):
    with track(start()) as first:
        pass
    with track(start(resume=True, tracking_uri=f"sqlite:///{tmp_path}/other.db")) as second:
        pass
    assert second.id != first.id


def test_deleted_experiment_is_named(start, store):
    import mlflow

    with track(start()) as run:
        pass
    client = mlflow.MlflowClient(store)
    client.delete_experiment(client.get_run(run.id).info.experiment_id)
    with pytest.raises(ConfigError, match="was deleted"), track(start()):
        pass


def refused(start, uri):
    with pytest.raises(TrainingError, match=r"MLflow store .* cannot be used") as caught, track(start(tracking_uri=uri)):
        pytest.fail("training started")
    return str(caught.value)


def test_server_that_is_not_there_is_an_error_before_training(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "refused" in refused(start, f"http://127.0.0.1:{port}")


def test_password_is_not_shown(start):
    assert "secret" not in refused(start, "postgresql://user:secret@127.0.0.1:1/mlflow")


def test_server_that_is_no_mlflow_is_an_error_before_training(start):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501 to everything
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        refused(start, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_file_that_is_no_database_is_an_error_before_training(start, tmp_path):
    (tmp_path / "notes.txt").write_text("buy milk\n" * 200)
    assert "not a database" in refused(start, f"sqlite:///{tmp_path}/notes.txt")


def test_folder_that_cannot_be_made_is_an_error_before_training(start, tmp_path):
    (tmp_path / "file").write_text("")
    refused(start, f"sqlite:///{tmp_path}/file/mlflow.db")


def test_store_that_somebody_else_has_locked_is_an_error_before_training(start, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "CONNECT_TIMEOUT_S", 0)
    holder = sqlite3.connect(tmp_path / "busy.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert "locked" in refused(start, f"sqlite:///{tmp_path}/busy.db")
    finally:
        holder.close()


def test_nested_mappings_become_one():
    assert flat({"a": {"b": {"c": 1}, "d": 2}, "e": 3}, "/") == {"a/b/c": 1, "a/d": 2, "e": 3}
