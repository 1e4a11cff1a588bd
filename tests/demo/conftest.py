import pytest

from demo.broker import embedded_broker


@pytest.fixture
def embedded(tmp_path):
    """An embedded broker."""
    with embedded_broker(tmp_path / "broker.log") as broker:
        yield broker
