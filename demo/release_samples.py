"""Before a base model is released: a simulated house takes the place of the real ones in a run's samples.

    python -m demo.release_samples RUN

The exporter checks its work on a run's samples, and one of them travels in the bundle as the golden sample. A model for everybody must not carry
anybody's household with it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from demo.simulate import simulate_house, simulated_house
from edge_agent.contract.errors import ConfigError
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.plan import FeaturePlan

SEED: Final = 2026
N_ORIGINS: Final = 64
RUN_RECORD, RUN_SAMPLES = "run.json", "samples.npz"


def replace_samples(run: Path) -> None:
    """Write `samples.npz` of `run` anew, in the form that the exporter reads.

    Raises:
        ConfigError: no run, or one that reads sensors by their names.
    """
    try:
        plan = FeaturePlan.from_dict(json.loads((run / RUN_RECORD).read_text(encoding="utf-8"))["plan"])
    except (OSError, ValueError, KeyError) as err:
        raise ConfigError(f"{run}: no training run ({err!r}); give the folder that hearthcast-train fit wrote") from err
    house = simulated_house()
    sensors = replace(plan, target=house.targets[0].name).sensors(house)
    days = plan.history_s // DAY_S + 16
    series = simulate_house(SEED, days).resample(plan.step_s).select(sensors)
    last = series.end - plan.horizon * plan.step_s
    np.savez_compressed(
        run / RUN_SAMPLES,
        values_0=series.values,
        grid_0=np.array([series.start, series.step_s], np.int64),
        features_0=np.array([[f.name, f.role] for f in series.features]),
        names_0=np.array([sensors[0], house.time_zone]),
        origins_0=last - 5 * 3600 * np.arange(N_ORIGINS, dtype=np.int64)[::-1],
    )


if __name__ == "__main__":
    replace_samples(Path(sys.argv[1]))
