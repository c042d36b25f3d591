"""The capacity model of docs/scaling.md, counted by hand."""

from __future__ import annotations

import pytest

from bench.cluster.capacity import Cost, cluster, costs_of, whole

DOCUMENT = """
| cores | 4 |

### Requests per second

| model, connections | MMS | Dimple | Dimple/MMS | engine alone | tutorial's server |
| --- | ---: | ---: | ---: | ---: | ---: |
| SqueezeNet, 1 | 1 (1-1) | 50.0 (49.0-51.0) | 9x (9-9) | 60 (60-60) | - |
| SqueezeNet, 8 | 39.5 (39.1-39.8) | 80.0 (47.2-56.9) | 1.32x (1.19-1.46) | 1,000 (65.6-66.3) | - |

### Latency, median (ms)
"""


def test_time_is_cores_over_requests_a_second() -> None:
    (cost,) = costs_of(DOCUMENT, hop=3.0)
    assert cost == Cost("SqueezeNet", engine=4.0, front=46.0, hop=3.0)  # 4 cores / 1,000; 4 cores / 80 less that


def test_whole_servers_match_a_calculation_by_hand() -> None:
    need = whole(Cost("SqueezeNet", engine=12.0, front=7.2), rate=100_000)
    # 1,920 cores busy; of 32 a machine 60 % are planned for, 19.2: 100 machines
    assert (need.fronts, need.nodes) == (100, 0)
    assert need.gigabits_in == pytest.approx(80.0)  # 100 kB x 100,000 / s
    # a million take 19,200 core-seconds, 5.333 core-hours, of 60 % use 8.889, at 5 cents each
    assert need.dollars == pytest.approx(0.4444, abs=1e-4)


def test_a_cluster_matches_a_calculation_by_hand() -> None:
    need = cluster(Cost("SqueezeNet", engine=12.0, front=7.2, hop=2.4), rate=100_000)
    assert (need.fronts, need.nodes) == (50, 63)  # 960 / 19.2 = 50; 1,200 / 19.2 = 62.5
    assert need.gigabits_hop == pytest.approx(481.7, abs=0.1)  # 3 x 224 x 224 x 4 bytes = 602,112


def test_a_document_without_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="make bench"):
        costs_of("# nothing\n", 0.0)
