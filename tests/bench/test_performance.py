"""The figures of the benchmark, and its report. Expected figures were worked out by hand."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.perf import mix
from bench.perf.client import amount, percentiles
from bench.perf.document import BENCH, SOAK, between, number, performance, table, with_spread, write_between
from bench.perf.figures import Goal, Spread, by_round, goals, lost, per_second, ratios, spread, to_mms
from bench.perf.plots import draw
from bench.perf.processes import Held, family, held
from bench.perf.profile import STEPS, mean, shares
from bench.perf.records import DIMPLE, ENGINE, MMS, Cell, Record, Run, Step, read_record, write_record
from bench.perf.rounds import agreement
from bench.perf.soaking import Sample, Soak, checks, growth

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def cell(
    server: str, per_second: float, round: int = 0, connections: int = 8, model: str = "smile", **more: int
) -> Cell:
    return Cell(round, server, model, connections, per_second, 1000 / per_second, 3000 / per_second, 500, **more)


def record(*cells: Cell, runs: tuple[Run, ...] = ()) -> Record:
    options = {"rounds": 2, "seconds": 3.0, "date": "2026-01-01"}
    return Record({"cores": "2"}, options, {"smile": "here"}, list(cells), list(runs), [], {"smile": 1e-7})


FULL = record(
    *(cell(MMS, 100.0, number, connections) for number in (0, 1) for connections in (1, 8, 100)),
    *(
        cell(DIMPLE, rate, number, connections)
        for number, rate in ((0, 400.0), (1, 500.0))
        for connections in (1, 8, 100)
    ),
    cell(ENGINE, 800.0),
    runs=(Run(0, MMS, 10.0, 2000.0, 2500.0, 9), Run(0, DIMPLE, 5.0, 800.0, 900.0, 3)),
)


# --- ab


def test_percentiles_are_read_to_the_microsecond() -> None:
    found = percentiles(["Percentage served,Time in ms", "0,1.615", "50,2.239", "99,16.640", "100,18.248"])
    assert (found[50], found[99]) == (2.239, 16.64)


def test_a_percentile_beyond_the_last_request_is_that_of_the_slowest() -> None:
    found = percentiles(["Percentage served,Time in ms", "50,100.0", "97,120.0", "98,0.000", "99,0.000", "100,150.0"])
    assert (found[50], found[97], found[98], found[99]) == (100.0, 120.0, 150.0, 150.0)


def test_many_connections_are_measured_for_a_number_of_requests() -> None:
    assert amount(8, 3.4, 100.0) == ["-t", "3", "-n", "200000"]
    assert amount(100, 10.0, 150.0) == ["-n", "1500"]
    assert amount(100, 10.0, 3.0) == ["-n", "200"]  # each connection sends at least two requests


# --- figures


def test_a_ratio_is_of_one_round() -> None:
    assert ratios({0: 30.0, 1: 10.0, 2: 5.0}, {0: 10.0, 1: 20.0}) == [3.0, 0.5]


def test_a_ratio_without_a_denominator_is_undefined() -> None:
    assert ratios({0: 30.0}, {0: 0.0}) == []


def test_a_spread_is_the_median_minimum_and_maximum() -> None:
    assert spread([4.0, 1.0, 2.0]) == Spread(2.0, 1.0, 4.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)
    assert spread([]) is None


def test_a_cell_is_looked_up_by_server_model_and_connections() -> None:
    found = record(cell(MMS, 5.0), cell(MMS, 6.0, 1), cell(MMS, 7.0, connections=1), cell(DIMPLE, 8.0))
    assert by_round(found, MMS, "smile", 8, per_second) == {0: 5.0, 1: 6.0}
    assert to_mms(found, "smile", 8, per_second) == Spread(1.6, 1.6, 1.6)  # the second round has no Dimple


def test_lost_and_refused_requests_count_alike() -> None:
    assert lost(record(cell(DIMPLE, 5.0, lost=2, refused=3), cell(DIMPLE, 5.0, 1)), "smile", 8) == [5, 0]


@pytest.mark.parametrize(
    ("median", "at_least", "reached"),
    [(0.5, False, True), (0.51, False, False), (0.51, True, True), (0.49, True, False)],
)
def test_a_goal_is_judged_by_the_median(median: float, at_least: bool, reached: bool) -> None:
    assert Goal("smile", "", 0.5, at_least, Spread(median, 0.0, 9.0)).reached is reached


def test_a_goal_without_measurements_is_neither_reached_nor_missed() -> None:
    assert Goal("smile", "", 0.5, False, None).reached is None


def test_the_goals_of_a_run_are_judged() -> None:
    found = {goal.what: (goal.measured.median if goal.measured else None, goal.reached) for goal in goals(FULL)}
    # MMS 100 a second in both rounds, Dimple 400 and 500: latencies are the inverse
    assert found["requests/s at 8"] == (4.5, True)
    assert found["p50 at 1 connection"] == (pytest.approx(0.225), True)
    assert found["resident memory (PSS)"] == (0.4, True)
    assert found["start to first answers"] == (0.5, False)
    assert found["lost or refused at 100"] == (0.0, True)


def test_one_lost_request_of_many_connections_misses_the_goal() -> None:
    (found,) = (goal for goal in goals(record(cell(DIMPLE, 5.0, connections=100, lost=1))) if "lost" in goal.what)
    assert found.reached is False


def test_answers_are_compared_class_by_class() -> None:
    one = {"smile": {"a": 0.75, "b": 0.25}, "squeezenet": {"cat": 0.5}}
    other = {"smile": {"a": 0.5, "b": 0.5}, "squeezenet": {"dog": 0.5}}
    assert agreement(one, other) == {"smile": 0.25, "squeezenet": 1.0}  # no class in common: nothing agrees


# --- a request's time


def test_time_that_the_response_does_not_report_counts_as_http() -> None:
    split = shares({"decode": 1.0, "faces": 0.0, "preprocess": 0.5, "queue": 0.25, "predict": 2.0, "total": 3.75}, 5.0)
    assert split == {"decode": 1.0, "faces": 0.0, "preprocess": 0.5, "queue": 0.25, "predict": 2.0, "http": 1.25}


def test_steps_are_averaged() -> None:
    rows = [dict.fromkeys(STEPS, 1.0), dict.fromkeys(STEPS, 4.0)]
    assert mean(rows) == dict.fromkeys(STEPS, 2.5)
    assert mean([]) == {}


# --- processes


def write_process(proc: Path, number: int, parent: int, group: int, pss: int = 1024, files: int = 2) -> None:
    folder = proc / str(number)
    (folder / "fd").mkdir(parents=True)
    (folder / "stat").write_text(f"{number} (a (b) c) S {parent} {group} {group} 0 -1\n")
    (folder / "smaps_rollup").write_text(
        f"0-1 ---p 0 00:00 0 [rollup]\nRss:  {2 * pss} kB\nPss:  {pss} kB\nPss_Anon: 7 kB\n"
    )
    (folder / "status").write_text("Name:\tx\nThreads:\t3\n")
    for descriptor in range(files):
        (folder / "fd" / str(descriptor)).touch()


def test_children_in_other_process_groups_belong_to_the_server(tmp_path: Path) -> None:
    for process, parent, group in ((10, 1, 10), (11, 10, 10), (12, 11, 12), (13, 12, 12), (20, 1, 20)):
        write_process(tmp_path, process, parent, group)
    assert family(10, tmp_path) == [10, 11, 12, 13]


def test_the_resources_of_processes_are_added_up(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1, 10, pss=1024)
    write_process(tmp_path, 11, 10, 10, pss=3072, files=5)
    assert held([10, 11, 99], tmp_path) == Held(processes=2, pss=4.0, rss=8.0, threads=6, files=7)


# --- the document


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.2844, "0.284"), (1.845, "1.84"), (12.34, "12.3"), (1670.4, "1,670")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_spread_is_written_with_its_ends() -> None:
    assert with_spread(Spread(1.84, 1.79, 1.9), "x") == "1.84x (1.79\u20131.90)"
    assert with_spread(None) == "\u2013"


def test_a_table_has_a_rule_under_its_head() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_only_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(f"top\n{BENCH[0]}\nold\n{BENCH[1]}\nmiddle\n{SOAK[0]}\nold soak\n{SOAK[1]}\nend\n")
    write_between(path, BENCH, "new\n")
    assert path.read_text() == f"top\n{BENCH[0]}\nnew\n{BENCH[1]}\nmiddle\n{SOAK[0]}\nold soak\n{SOAK[1]}\nend\n"


@pytest.mark.parametrize("text", ["", BENCH[0], f"{BENCH[1]}\n{BENCH[0]}", f"{BENCH[0]}\n{BENCH[1]}\n{BENCH[0]}"])
def test_a_document_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must have, once each"):
        between(text, BENCH, "new\n")


def test_the_documentation_has_its_markers() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert between(between(text, BENCH, ""), SOAK, "") != text


def test_the_report_marks_goals_that_were_not_reached() -> None:
    report = performance(FULL)
    assert "| smile CNN: requests/s at 8 | \u2265 4\u00d7 | 4.50\u00d7 (4.00\u20135.00) | yes |" in report
    assert (
        "| all together: start to first answers | \u2264 0.4\u00d7 | 0.500\u00d7 (0.500\u20130.500) | **no** |"
        in report
    )
    assert (
        "| smile CNN, 8 | 100 (100\u2013100) | 450 (400\u2013500) | 4.50\u00d7 (4.00\u20135.00) "
        "| \u2013 | \u2013 | 800 (800\u2013800) | \u2013 |" in report
    )


def test_every_plot_that_the_report_shows_is_drawn(tmp_path: Path) -> None:
    full = replace(FULL, profile=[Step("smile", 1, dict.fromkeys(STEPS, 1.0))])
    draw(full, tmp_path)
    linked_plots = {part.partition(")")[0] for part in performance(full).split("(performance/")[1:]}
    assert {file.name for file in tmp_path.iterdir()} == linked_plots
    assert all(
        file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size < 100_000 for file in tmp_path.iterdir()
    )


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    full = replace(FULL, profile=[Step("smile", 1, {"decode": 1.0})])
    write_record(full, tmp_path / "new" / "performance.json")
    assert read_record(tmp_path / "new" / "performance.json") == full
    assert json.loads((tmp_path / "new" / "performance.json").read_text())["cells"][0]["per_second"] == 100.0


# --- the soak


def samples(*sizes: float) -> list[Sample]:
    return [Sample(float(second), Held(3, pss, pss, 20, 50)) for second, pss in enumerate(sizes)]


def test_growth_compares_the_last_quarter_with_the_first_after_the_warm_up() -> None:
    assert growth(samples(1, 1, 100, 102, 200, 200, 200, 200, 104, 106), 2) == pytest.approx(105 / 101 - 1)
    assert growth(samples(1, 1), 0) == 0.0


def result(after: Held, sizes: tuple[float, ...] = (100,) * 8, wrong: int = 0) -> Soak:
    tally = mix.Tally(Counter({("good JPEG", 200): 7}), wrong)
    return Soak(0.0, Held(3, 100.0, 100.0, 20, 50), after, samples(*sizes), tally, 1)


@pytest.mark.parametrize(
    ("after", "sizes", "wrong", "broken"),
    [
        (Held(3, 102.9, 0, 20, 50), (100,) * 8, 0, []),
        (Held(3, 104.0, 0, 20, 50), (100,) * 8, 0, ["memory at rest"]),
        (Held(3, 100.0, 0, 21, 50), (100,) * 8, 0, ["threads gained"]),
        (Held(3, 100.0, 0, 20, 51), (100,) * 8, 0, ["files gained"]),
        (Held(4, 100.0, 0, 20, 50), (100,) * 8, 0, ["processes gained"]),
        (Held(3, 100.0, 0, 20, 50), (100, 100, 101, 101, 103, 103, 104, 104), 0, ["memory under load"]),
        (Held(2, 90.0, 0, 19, 49), (100,) * 8, 1, ["requests that ended"]),
    ],
)  # fmt: skip
def test_growth_and_lost_requests_are_reported(
    after: Held, sizes: tuple[float, ...], wrong: int, broken: list[str]
) -> None:
    missed = [what for what, _, holds in checks(result(after, sizes, wrong)) if not holds]
    assert len(missed) == len(broken)
    assert all(what.startswith(start) for what, start in zip(missed, broken, strict=True))


class Answering(BaseHTTPRequestHandler):
    """A server that answers 200 with a body, but breaks off at ``/cut``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"he" if self.path == "/cut" else b"hello")
        self.close_connection = self.path == "/cut"

    def log_message(self, *ignored: object) -> None:
        pass


def test_a_truncated_response_counts_as_lost_and_the_next_does_not() -> None:
    import http.client

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        tally = mix.Tally()
        try:
            for path in ("/cut", "/whole"):
                kind = mix.Kind("k", "GET", path, b"", mix.GOOD)
                tally.count("k", *_swapped(mix.ask(connection, kind)))
        finally:
            connection.close()
            server.shutdown()
            running.join()
    assert tally.ended == {("k", 0): 1, ("k", 200): 1}
    assert tally.wrong == 1
    assert "k: 0 IncompleteRead" in tally.samples[0]


def _swapped(ended: tuple[int, str]) -> tuple[int, tuple[int, ...], str]:
    return ended[0], mix.GOOD, ended[1]
