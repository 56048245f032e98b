"""The scoreboard's records, counts, report and figures, on invented fits whose counts are known."""

import csv
import math

import pytest

from infer.core.evidence import Evidence
from infer.scoreboard import __main__ as command
from infer.scoreboard import record
from infer.scoreboard.ablation import ablated, halves
from infer.scoreboard.counts import bounds, is_false_alarm, is_miss, share
from infer.scoreboard.errors import LOST, Errors
from infer.scoreboard.figures import calibration, heat_map
from infer.scoreboard.record import Record, Settings
from infer.scoreboard.report import markdown

SETTINGS = Settings(budget=20.0, key=0, examine=False)
ERRORS = {
    "right": Errors(0.05, 0.02, 0.1, 0.02, 0.02),
    "gray": Errors(0.2, 0.02, 0.1, 0.06, 0.02),
    "wrong": Errors(0.75, 0.02, 0.1, 0.2, 0.02),
}


def fitted(case, method, label, verdict, seconds=1.0, **fields):
    against = {"ok": "ok", "suspect": "suspect", "failed": "failed"}[verdict]
    base = {
        "case": case,
        "group": "posteriordb",
        "tags": (),
        "method": method,
        "kind": "VI",
        "settings": SETTINGS,
        "verdict": verdict,
        "label": label,
        "errors": ERRORS[label],
        "evidence": (Evidence("score regression", 0.4, "hi <= 0.5", against, "as told"),),
        "scores": {"lo": 0.1, "hi": 0.4, "tail": 0.2, "positive": 1.0},
        "dtype": "float32",
        "run_seconds": seconds,
    }
    return Record(**base | fields)


def invented():
    """12 fits with a verdict: 5 wrong (2 misses), 5 right (2 false alarms), 2 gray."""
    hard, modes = {"tags": ("hard geometry",)}, {"tags": ("modes",), "group": "synthetic"}
    peer = {"kind": "peer", "verdict": "unjudged", "evidence": ()}
    return [
        Record(**vars(fitted("a", "NumPyro NUTS", "right", "ok", 5.0)) | peer),
        Record(**vars(fitted("b", "NumPyro NUTS", "right", "ok", 3.0)) | peer),
        fitted("a", "quick", "right", "ok", 0.5),
        fitted("a", "slow", "right", "ok", 9.0),
        fitted("a", "chains", "right", "ok", 0.1, kind="MCMC"),
        fitted("b", "quick", "wrong", "ok", 0.5, **hard),
        fitted("b", "slow", "right", "suspect", 4.0, **hard),
        fitted("b", "chains", "wrong", "suspect", 9.0, kind="MCMC", **hard),
        fitted("c", "quick", "wrong", "failed", 0.5),
        fitted("c", "slow", "wrong", "failed", 4.0),
        fitted("c", "chains", "gray", "ok", 4.0, kind="MCMC"),
        fitted("d", "quick", "wrong", "ok", 0.5, **modes),
        fitted("d", "slow", "gray", "suspect", 4.0, **modes),
        fitted("d", "chains", "right", "failed", 4.0, kind="MCMC", **modes),
        Record("d", "synthetic", ("modes",), "odd", "VI", SETTINGS, "error", message="it\nbroke|"),
        Record("d", "synthetic", ("modes",), "rows", "VI", SETTINGS, "unsuited", message="no"),
    ]


def test_a_record_survives_its_line():
    odd = fitted(
        "é", "m", "wrong", "failed", errors=LOST, scores={"lo": math.inf, "tail": -math.inf}
    )
    line = record.to_line(odd)
    assert "\n" not in line and "Infinity" not in line and "NaN" not in line
    again = record.from_line(line)
    assert math.isnan(again.errors.floor) and again.errors.mean == math.inf
    assert again.scores == odd.scores and again.evidence == odd.evidence
    for one in invented():
        assert record.from_line(record.to_line(one)) == one


def test_a_torn_last_line_is_left_out_and_another_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    assert record.read(path) == []
    record.mend(path)
    first, second = invented()[2:4]
    record.append(path, first)
    whole = path.read_bytes()
    path.write_bytes(whole + record.to_line(second).encode()[:-1])
    assert record.read(path) == [first]
    record.mend(path)
    assert path.read_bytes() == whole
    record.append(path, second)
    assert record.read(path) == [first, second]
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1 of .* remove that line"):
        record.read(path)


def test_settings_are_not_mixed():
    record.check_settings(invented(), SETTINGS)
    with pytest.raises(ValueError, match="another --out"):
        record.check_settings(invented(), Settings(budget=20.0, key=1, examine=False))


def test_bounds_of_a_share():
    """By hand: P(X <= 0) = (1 - p)^n, P(X <= 1 of 2) = 1 - p^2, P(X >= 1 of 2) = 1 - (1 - p)^2."""
    assert bounds(0, 16) == (0.0, pytest.approx(1 - 0.05 ** (1 / 16)))
    assert bounds(1, 2) == (pytest.approx(1 - 0.95**0.5), pytest.approx(0.95**0.5))
    assert bounds(3, 3, level=0.9) == (pytest.approx(0.1 ** (1 / 3)), 1.0)
    assert bounds(0, 0) == (0.0, 1.0)
    k, n = 4, 11
    lower, upper = bounds(k, n)

    def below(p):
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))

    exactly = math.comb(n, k) * lower**k * (1 - lower) ** (n - k)
    assert below(upper) == pytest.approx(0.05)
    assert 1 - below(lower) + exactly == pytest.approx(0.05)
    with pytest.raises(ValueError, match="0 <= k <= n"):
        bounds(3, 2)


def test_shares_count_fits_and_posteriors():
    found = share(invented(), lambda r: r.label == "wrong", is_miss)
    assert (found.fits, found.cases) == ((2, 5), (2, 3))
    found = share(invented(), lambda r: r.label == "right", is_false_alarm)
    assert (found.fits, found.cases) == ((2, 5), (2, 3))


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_report_counts_what_was_put_in():
    text = markdown(invented())
    assert "12 fits with a verdict, of 4 posteriors by 5 methods" in text
    assert "1 ended with an error, 1 pairs do not go together" in text
    table = section(text, "Truth and verdict")
    plain = "| posteriordb | one mode, plain geometry | 2 | 2 | 0 / 0 / 2 | 3 | 3 / 0 / 0 | 1 |"
    assert plain in table
    hard = "| posteriordb | one mode, hard geometry | 1 | 2 | 1 / 1 / 0 | 1 | 0 / 1 / 0 | 0 | - |"
    assert hard in table
    modes = "| synthetic | several modes | 1 | 1 | 1 / 0 / 0 | 1 | 0 / 0 / 1 | 1 | 0 / 1 / 0 |"
    assert modes in table
    assert "| all |  | 4 | 5 | 2 / 1 / 2 | 5 | 3 / 1 / 1 | 2 | 1 / 1 / 0 |" in table
    sure = section(text, "How sure this is")
    upper = 1 - 0.05**0.5
    assert (
        f"| wrong fits called ok | one mode, plain geometry | 0 of 2 (0.0% to {upper:.1%})" in sure
    )
    assert "| right fits not called ok | one mode, hard geometry | 1 of 1 (5.0% to 100.0%)" in sure
    missed = section(text, "Misses: wrong, and called ok")
    assert missed.count("\n| ") == 4  # head, rule, and two
    assert (
        "| b | one mode, hard geometry | quick | ok | 0.75 | 0.02 | 0.1 | 10 | 0.4 | - |" in missed
    )
    alarms = section(text, "Right, and not called ok")
    assert alarms.count("\n| ") == 4 and "| score regression |" in alarms
    assert "| quick | 3 | 2 / 0 / 1 | 1 | 1 / 0 / 0 | 0 | - | 2 | 0 | 10 | 0.5 | 0 |" in section(
        text, "By method"
    )
    assert "| d | W **" not in text and "**W ok**" in section(text, "Every fit")
    assert "| d | odd | it broke\\| |" in section(text, "Errors")


def test_the_report_says_where_a_peer_is_slower():
    told = section(markdown(invented()), "Seconds, beside NumPyro's NUTS")
    assert "On 1 of 2 posteriors" in told
    assert "| a | 5 (right) | quick | 0.5 | chains | 0.1 |" in told
    assert "| b | 3 (right) | none |  | none |  |" in told


def test_an_examined_run_says_what_it_changed():
    fits = [fitted("a", "m", "wrong", "ok", examined="failed"), *invented()]
    told = section(markdown(fits), "After examine()")
    assert "| wrong | ok | failed | 1 |" in told and told.count("\n| ") == 3
    assert "After examine()" not in markdown(invented())


def test_files_are_written(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for one in invented():
        record.append(out / "records.jsonl", one)
    assert command.main(["--report-only", "--out", str(out)]) == 0
    assert (out / "report.md").read_text() == markdown(invented())
    assert {p.name for p in out.glob("*.png")} == {"heat_map.png", "calibration.png"}
    with (out / "fits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(invented())
    assert rows[5]["method"] == "quick" and float(rows[5]["error mean"]) == 0.75
    assert float(rows[5]["scores hi"]) == 0.4 == float(rows[5]["evidence score regression"])
    assert rows[-2]["message"] == "it\nbroke|" and rows[-2]["error mean"] == ""


def test_the_figures_show_every_fit():
    from matplotlib import pyplot

    figure = heat_map(invented())
    (ax,) = figure.axes
    letters = [text.get_text() for text in ax.texts]
    assert sorted(letters) == sorted("R" * 5 + "g" * 2 + "W" * 5 + "!")
    framed = [patch for patch in ax.patches if patch.get_linewidth() > 2]
    assert len(framed) == 2 and len(ax.patches) == 13
    figure = calibration(invented())
    shown = [len(ax.collections[0].get_offsets()) for ax in figure.axes]
    assert shown == [6, 3, 3]
    heat_map([]), calibration([])
    pyplot.close("all")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "write --posteriordb PATH/posterior_database, or --group synthetic"),
        (["--group", "synthetic", "--budget", "0"], "write --budget 20 --workers 2 --key 0"),
        (["--group", "synthetic", "--methods", "Laplas"], "'Laplas' matches none of: Laplace;"),
        (["--group", "synthetic", "--posteriors", "eight*"], "'eight*' matches none of"),
        (["--posteriordb", "nowhere"], "nowhere has no folder 'posteriors'"),
        (["--report-only"], "leave out --report-only"),
    ],
)
def test_wrong_use_says_what_to_write(arguments, told, tmp_path, capsys):
    out = tmp_path / "new"
    with pytest.raises(SystemExit) as stop:
        command.main([*arguments, "--out", str(out)])
    assert stop.value.code == 2 and told in capsys.readouterr().err
    assert not out.exists()


def test_names_come_in_the_order_asked_for():
    names = ["NUTS", "NUTS, dense", "HMC", "Laplace"]
    assert command.selected(["Lap*", "NUTS*"], names, "methods") == [
        "Laplace",
        "NUTS",
        "NUTS, dense",
    ]
    assert command.selected(["*"], names, "methods") == names


def objected(case, label, hi, kl, **fields):
    """A fit with two pieces of evidence at the limits in use, and a verdict that goes with them."""
    evidence = (
        Evidence(
            "score regression", hi, "hi <= 0.5 ok", "suspect" if hi > 0.5 else "ok", "as told"
        ),
        Evidence("KL gap", kl, "<= 0.2 ok, > 2 failed", "suspect" if kl > 0.2 else "ok", "as told"),
    )
    verdict = "suspect" if max(hi / 0.5, kl / 0.2) > 1 else "ok"
    return fitted(case, "m", label, verdict, evidence=evidence, **fields)


def test_evidence_is_worth_what_hangs_on_it():
    """In the first half (a, c) a wrong fit has hi = 0.7: a limit up to 0.6 stops it."""
    records = [
        objected("a", "wrong", 0.7, 0.0),
        objected("b", "wrong", 0.58, 0.1),
        objected("b", "wrong", 0.9, 5.0),
        objected("b", "right", 0.55, 0.0),
        objected("c", "wrong", 0.1, 0.3),
        objected("d", "right", 0.3, 0.0),
        objected("e", "wrong", 0.9, 0.0, tags=("modes",)),  # not counted
    ]
    assert ablated(records) == [
        ["score regression", "3", "2", "1", "1"],
        ["KL gap", "2", "1", "0", "0"],
    ]
    assert halves(records) == [
        ["score regression", "first", "0.6", "0.5", "1 of 2", "2 of 2"],
        ["score regression", "second", "0.5", "0.5", "0 of 2", "0 of 0"],
        ["KL gap", "first", "0.12", "0.1", "0 of 2", "1 of 2"],
        ["KL gap", "second", "0.2", "0.1", "1 of 2", "0 of 0"],
    ]
