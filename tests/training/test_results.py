"""What a run prints at its end."""

from types import SimpleNamespace

from emotion.training import results


def test_rows_to_score_are_those_of_the_test_split_or_without_one_a_file(monkeypatch, capsys):
    monkeypatch.setattr(results, "summarize", lambda report: [])
    efficiency = {"examples_per_second": 1.0, "total_seconds": 2.0, "peak_memory": 2**30}
    for has_test, rows in ((True, "--split test"), (False, "--input FILE --output FOLDER")):
        results.print_results(
            SimpleNamespace(path="runs/a b"), {}, efficiency, {"notes": [], "text_checks": {}, "known_texts": {}, "verdict": None}, has_test
        )
        assert f"\n  python evaluate.py --model 'runs/a b' {rows}\n" in capsys.readouterr().out
