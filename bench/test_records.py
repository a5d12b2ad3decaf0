"""Records, old and new: filed without loss, found by name, shown over time, compared and drawn."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import compare, history, limits, metrics, plot, ranks, records, report, view
from bench.runner import Result
from bench.scenario import Column, Target
from bench.scenarios import SCENARIOS

SPREAD = (0.99, 1.0, 1.01, 1.005, 0.995)


def scenario(**more: Any) -> Any:
    return SimpleNamespace(
        SUMMARY="a test",
        COLUMNS=(Column("rate", "conn/s"), Column("first_p50", "first ms", 2, 1e-3)),
        TARGETS=(Target("fastinetd", "rate", at_least=2.0, over="reference"),),
        BASELINE="reference",
        **more,
    )


def record(rates: Mapping[str, float], time: str = "2026-11-25T01:02:03Z", rounds: int = 5) -> records.Record:
    """A record in which the samples lie close around these rates."""
    samples: dict[str, Any] = {c: [{"rate": r * s} for s in SPREAD[:rounds]] for c, r in rates.items()}
    return report.record_of(Result("test", scenario(), rounds, samples), {"cores": 2}, 1.0, time)


def old(made: records.Record) -> records.Record:
    """A record as it would have been written before records had a time, columns and notes."""
    return {key: value for key, value in made.items() if key not in ("time", "columns", "notes")}


# --- filing -----------------------------------------------------------------------------------------


def test_a_later_run_of_the_day_replaces_nothing(tmp_path: Path) -> None:
    first = records.file_record(record({"fastinetd": 1.0}), tmp_path)
    later = records.file_record(record({"fastinetd": 2.0}, "2026-11-25T01:03:00Z"), tmp_path)
    same_second = records.file_record(record({"fastinetd": 3.0}), tmp_path)
    assert [path.name for path in (first, later, same_second)] == [
        "2026-11-25-010203-test.json",
        "2026-11-25-010300-test.json",
        "2026-11-25-010203-test.2.json",
    ]
    filed = [records.load_records(path)[0] for path in (first, same_second)]
    assert [view.values_of(record, "fastinetd", "rate")[1] for record in filed] == [1.0, 3.0]


def test_names_select_files_directories_and_beginnings(tmp_path: Path) -> None:
    old_path = tmp_path / "2026-11-25-test.json"
    records.write_records(old_path, old(record({"fastinetd": 1.0})))
    new_path = records.file_record(record({"fastinetd": 2.0}), tmp_path)
    assert records.select_files(str(old_path), tmp_path) == [old_path]
    assert records.select_files("2026-11-25", tmp_path) == records.select_files(str(tmp_path)) == [new_path, old_path]
    assert records.latest_records("2026-11-25", tmp_path)["test"]["time"] == "2026-11-25T01:02:03Z"
    with pytest.raises(records.RecordError, match="2026-12"):
        records.select_files("2026-12", tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"scenario": "exec"}'])
def test_what_is_no_record_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(records.RecordError, match=r"x\.json"):
        records.load_records(path)


def test_filed_records_can_be_read_and_shown() -> None:
    paths = sorted(records.RESULTS.glob("*.json"))
    if not records.RESULTS.is_dir():
        pytest.skip("the archive of the sources comes without records")
    assert len(paths) > 30
    for path in paths:
        for filed in records.load_records(path):
            assert view.metrics_of(filed) and view.targets_of(filed) is not None
            assert history.history_lines(filed["scenario"], [filed])


# --- what a record shows ----------------------------------------------------------------------------


def test_metrics_are_the_first_and_those_of_targets() -> None:
    made = record({"fastinetd": 3.0, "reference": 1.0})
    assert [column.heading for column in view.metrics_of(made)] == ["conn/s"]
    assert [column.key for column in view.metrics_of(old(made))] == ["rate"]
    made["targets"].append({"target": "first_p50 of fastinetd <= 2.0", "value": 1.0, "verdict": "PASS"})
    assert [column.heading for column in view.metrics_of(made)] == ["conn/s", "first ms"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("fastinetd", "reference"),
        ("fastinetd, perl", "reference, perl"),
        ("fastinetd, C worker", "reference"),
        ("reference", None),
    ],
)
def test_the_standard_of_a_case(case: str, expected: str | None) -> None:
    cases = {name: {"rate_over_xinetd": 1.0, "samples": []} for name in ("reference", "reference, perl", case)}
    if expected is None:
        del cases["reference, perl"]
    assert view.standard_of({"cases": cases}, case) == expected


def test_whose_a_case_is() -> None:
    assert view.is_standard("reference, bash") and view.is_standard("in-process")
    assert view.is_other("xinetd, refuses") and view.is_other("socket-activate (no user switch)")
    assert not view.is_other("fastinetd, exec") and not view.is_other("0 MB") and not view.is_other("reference")


def test_each_case_may_have_its_own_base() -> None:
    first_io = SCENARIOS["first_io"]
    samples: Any = {
        f"fastinetd {way}, {language}": [{"rate": rate}]
        for language, rates in {"bash": (1.0, 3.0), "perl": (2.0, 20.0)}.items()
        for way, rate in zip(("exec", "first_io"), rates)
    }
    result = Result("first_io", first_io, 1, samples)
    made = report.record_of(result, {}, 1.0, "2026-11-25T01:02:03Z")
    assert made["cases"]["fastinetd first_io, perl"]["rate_over_fastinetd exec, perl"] == 10.0
    assert view.key_and_base(made, "fastinetd first_io, bash") == ("rate", "fastinetd exec, bash")
    assert [v.word for v in result.verdicts()] == ["PASS", "PASS", "not measured", "not measured"]


# --- history ----------------------------------------------------------------------------------------


def test_history_goes_from_the_oldest_to_the_latest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.file_record(record({"fastinetd": 3000.0, "reference": 1000.0}, "2026-11-26T10:00:00Z"), tmp_path)
    records.write_records(tmp_path / "2026-11-25-test.json", old(record({"fastinetd": 1000.0, "reference": 1000.0})))
    assert history.main(["test"], tmp_path) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[:2] == [["test", "(conn/s)"], ["2026-11-25", "2026-11-26", "10:00"]]
    assert ["fastinetd", "1,000", "3,000"] in lines
    assert lines[-1][-3:] == ["1", "!", "3"]
    assert history.main(["--last", "1"], tmp_path) == 0
    assert "2026-11-25" not in capsys.readouterr().out
    assert history.main(["other"], tmp_path) == 2


# --- the statistic ----------------------------------------------------------------------------------


def every_deal(one: Sequence[float], other: Sequence[float]) -> float:
    """The p of the rank test, by dealing all hands one by one."""
    every = [*one, *other]
    ranks_ = [sum(v < value for v in every) + (1 + sum(v == value for v in every)) / 2 for value in every]
    middle = len(one) * (len(every) + 1) / 2
    seen = abs(sum(ranks_[: len(one)]) - middle)
    deals = list(itertools.combinations(ranks_, len(one)))
    return sum(abs(sum(deal) - middle) >= seen - 1e-9 for deal in deals) / len(deals)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]),
        ([1, 2, 3, 4, 5], [2.5, 3.5, 4.5, 5.5, 6.5]),
        ([1, 1, 2], [1, 2, 2, 3]),
        ([1, 1, 1], [1, 1]),
        ([1], [2]),
    ],
)
def test_p_is_that_of_every_deal(one: list[float], other: list[float]) -> None:
    assert ranks.p_value(one, other) == pytest.approx(every_deal(one, other))
    assert ranks.p_value(other, one) == pytest.approx(ranks.p_value(one, other))


def test_p_of_hands_that_do_not_overlap_is_the_best_there_is() -> None:
    assert ranks.p_value([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(ranks.best_p(4, 4)) == pytest.approx(2 / 70)
    assert ranks.p_value([], [1.0]) == 1.0


@pytest.mark.parametrize(
    ("factor", "more_is_better", "word"),
    [
        (0.9, True, compare.SLOWER),
        (1.1, True, compare.FASTER),
        (1.1, False, compare.SLOWER),
        (0.97, True, compare.SAME),  # as sure as the others, and not worth a word
    ],
)
def test_a_change_is_told_by_its_size_and_its_chance(factor: float, more_is_better: bool, word: str) -> None:
    before = [100 * s for s in SPREAD]
    assert compare.judge_change(before, [factor * v for v in before], more_is_better, 0.05)[2] == word


def test_a_change_within_the_noise_is_none() -> None:
    assert compare.judge_change([100, 140, 90, 120, 80], [90, 130, 85, 100, 75], True, 0.05)[2] == compare.SAME


def test_three_rounds_tell_nothing() -> None:
    assert compare.judge_change([100, 101, 102], [50, 51, 52], True, 0.05)[2] == compare.UNSURE


# --- comparing records ------------------------------------------------------------------------------


def run_compare(tmp_path: Path, before: Mapping[str, float], after: Mapping[str, float], rounds: int = 5) -> int:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, rates in zip(paths, (before, after)):
        records.write_records(path, [record(rates, rounds=rounds)])
    return compare.main([str(path) for path in paths])


def test_slower_is_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_compare(tmp_path, {"fastinetd": 100, "0 MB": 100}, {"fastinetd": 80, "0 MB": 120}) == 1
    out = capsys.readouterr().out
    assert "slower: test: fastinetd: conn/s -20.0%" in out
    assert "faster: test: 0 MB: conn/s +20.0%" in out


def test_a_slower_machine_is_not_a_slower_daemon(tmp_path: Path) -> None:
    before = {"fastinetd": 100.0, "reference": 110.0, "xinetd": 80.0}
    assert run_compare(tmp_path, before, {case: rate / 2 for case, rate in before.items()}) == 0
    assert run_compare(tmp_path, before, before | {"fastinetd": 80.0}) == 1


def test_another_server_that_got_slower_does_not_count(tmp_path: Path) -> None:
    before = {"fastinetd": 100.0, "reference": 110.0, "xinetd": 80.0}
    assert run_compare(tmp_path, before, before | {"xinetd": 40.0}) == 0


def test_too_few_rounds_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_compare(tmp_path, {"fastinetd": 100}, {"fastinetd": 50}, rounds=3) == 0
    assert "1 of 1 cannot be told" in capsys.readouterr().out


def test_nothing_in_common_is_exit_status_2(tmp_path: Path) -> None:
    assert run_compare(tmp_path, {"fastinetd": 100}, {"other": 50}) == 2
    assert compare.main([str(tmp_path / "a.json"), str(tmp_path / "none.json")]) == 2


def test_old_records_are_compared_with_new_ones(tmp_path: Path) -> None:
    new = record({"fastinetd": 80.0, "reference": 100.0})
    before = old(record({"fastinetd": 100.0, "reference": 100.0}))
    words = {change.case: change.word for change in compare.find_changes(before, new)}
    assert words == {"fastinetd": compare.SLOWER, "reference": compare.SAME}


# --- pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_a_picture_is_filed_beside_its_record(tmp_path: Path, several: bool) -> None:
    made = record({"fastinetd": 3.0, "reference": 1.0, "xinetd": 0.5, "inetd": 2.0})
    made["cases"]["inetd"]["samples"] = [None] * 5
    made["notes"], made["problems"] = ["a note"], ["round 1, inetd: did not start"]
    other = old(record({"0 MB": 1.0})) | {"scenario": "other"}
    path = tmp_path / "r.json"
    records.write_records(path, [made, other] if several else made)
    assert plot.main([str(path)]) == 0
    names = ["r-other.png", "r-test.png"] if several else ["r.png"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == names
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in tmp_path.glob("*.png"))


def test_the_line_of_a_target_is_in_the_units_of_its_bar() -> None:
    made = record({"fastinetd": 3.0, "reference": 100.0})
    assert plot.target_line(made, Target("fastinetd", "rate", at_least=2.5, over="reference")) == pytest.approx(250)
    assert plot.target_line(made, Target("fastinetd", "rate", at_most=7.0)) == 7.0
    assert plot.target_line(made, Target("fastinetd", "rate", at_least=1.0, over="missing")) is None


def test_a_target_in_the_way_of_a_label_and_one_that_is_not(tmp_path: Path) -> None:
    made = record({"fastinetd": 3.0, "reference": 1.2})
    plot.draw_record(made, tmp_path / "near.png")
    made["targets"] = [{"target": "rate of fastinetd >= 90.0", "value": 3.0, "verdict": "MISS"}]
    plot.draw_record(made, tmp_path / "far.png")
    assert (tmp_path / "near.png").stat().st_size and (tmp_path / "far.png").stat().st_size


# --- pools and limits -------------------------------------------------------------------------------

PAGE = """\
# TYPE fastinetd_pool_processes gauge
fastinetd_pool_processes{service="a",state="zygote"} 2.0
fastinetd_pool_processes{service="a",state="idle"} 7.0
fastinetd_pool_processes{service="a",state="busy"} 3.0
fastinetd_pool_processes{service="b",state="idle"} 90.0
fastinetd_pool_hits_total{service="a"} 12.0
fastinetd_pool_misses_total{service="a"} 1.0
fastinetd_pool_hits_total{service="b"} 500.0
fastinetd_journal_depth 0.0
"""


def test_a_pool_is_read_from_the_metrics() -> None:
    pool = metrics.parse_page(PAGE, "a")
    assert (pool.hits, pool.misses, pool.ready) == (12, 1, 9)
    assert metrics.parse_page(PAGE, "c") == metrics.Pool()


def test_the_smallest_limit_decides_and_is_named() -> None:
    assert limits.least_bound(10_000, {"a": 20_000, "b": 15_000}) == (10_000, "")
    assert limits.least_bound(10_000, {"a": 20_000, "b": 7_777}) == (7_700, "b")
    assert limits.least_bound(10_000, {"a": -5}) == (0, "a")


def test_this_machine_has_limits() -> None:
    count, why = limits.processes_allowed(10_000_000)
    assert 0 <= count < 10_000_000 and "in place of 10,000,000" in why
    assert limits.processes_allowed(1) == (1, "")


def test_notes_are_in_the_record_and_the_table() -> None:
    result = Result("test", scenario(), 1, {"fastinetd": [None]})
    result.notes.append("a note")
    assert json.loads(json.dumps(report.record_of(result, {}, 1.0, "2026-11-25T01:02:03Z")))["notes"] == ["a note"]
    assert "NOTE  a note" in report.result_table(result)
