"""Labs: what a lab file may import, what an answer must show, and that every lab runs in its quick form."""

from __future__ import annotations

import ast
import html
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin import labs
from opsin.cli import main
from opsin.errors import CheckFailedError, ConfigError, RunError
from opsin.labs.lab import Book, Found, Lab, numbers_in, question
from opsin.labs.measure import agreement
from opsin.labs.plans import planned_runs
from opsin.labs.shapes import write_shapes
from opsin.types import Score

USED = {
    "__future__",
    "functools",
    "pathlib",
    "typing",
    "opsin",
    "numpy",
    "scipy",
    "opsin.labs.lab",
    "opsin.labs.measure",
}
"""What a lab file may import; scipy is the reference of `convolution`."""
HELPERS = {f"opsin.labs.{name}" for name in ("backbones", "mask_scores", "shapes", "steps")}
"""What several labs share, besides."""


TRAIN = Book.train


def source_of(name: str) -> str:
    return (files("opsin.labs") / f"{labs.HOMES[name].rpartition('.')[2]}.py").read_text(encoding="utf-8")


def shortly(book: Book, data: str, *, name: str, **settings: Any) -> opsin.Run:
    """`Book.train` with one epoch and few scenes."""
    fewer = {key: value for key, value in {"epochs": 1, "scenes": 60}.items() if key in settings}
    return TRAIN(book, data, name=name, **{**settings, **fewer})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], labs.LabResult]:
    """Each lab in its quick form, run once; how well a network learns is no matter here, so that one epoch will do."""
    out, found = tmp_path_factory.mktemp("course") / "labs", {}

    def result(name: str) -> labs.LabResult:
        if name not in found:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Book, "train", shortly)
                found[name] = labs.run(name, out=out)
        return found[name]

    return result


@pytest.mark.parametrize("name", labs.names())
def test_a_lab_file_imports_the_public_api_arrays_and_the_builder_alone(name: str) -> None:
    tree = ast.parse(source_of(name))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= USED | HELPERS
    assert "scipy" not in imported or name == "convolution"


@pytest.mark.parametrize("name", labs.names())
def test_a_lab_is_one_readable_file(name: str) -> None:
    lines = source_of(name).splitlines()
    assert 80 <= len(lines) <= 250
    assert lines[0] == "# %% [markdown]"


@pytest.mark.parametrize("name", labs.names())
def test_a_quick_lab_answers_every_question_with_evidence_of_its_own_report(
    name: str, results: Callable[[str], labs.LabResult]
) -> None:
    found = results(name)
    assert [answer.question for answer in found.answers] == [asked.text for asked in labs.get(name).questions]
    shown = {f"table {table.name}" for table in found.tables} | {f"figure {figure.name}" for figure in found.figures}
    shown |= {f"run {run.name}" for run in found.runs}
    for answer in found.answers:
        assert answer.evidence
        assert set(answer.evidence) <= shown
        assert answer.agrees is True or answer.why or not answer.published


@pytest.mark.parametrize("name", labs.names())
def test_every_number_of_an_answer_stands_in_a_table_that_it_cites(
    name: str, results: Callable[[str], labs.LabResult]
) -> None:
    document = json.loads((results(name).report.parent / "lab.json").read_text(encoding="utf-8"))
    tables = {f"table {table['name']}": table for table in document["tables"]}
    for answer in document["answers"]:
        cited = [tables[part] for part in answer["evidence"] if part in tables]
        words = [word for table in cited for word in measured_words(table)]
        assert numbers_in(answer["ours"]) <= numbers_in(" ".join(words))
        assert numbers_in(answer["answer"]) <= numbers_in(" ".join([answer["question"], *words]))
        assert numbers_in(answer["why"]) <= numbers_in(" ".join([answer["question"], answer["published"], *words]))


@pytest.mark.parametrize("name", labs.names())
def test_a_report_is_one_page_that_loads_nothing(name: str, results: Callable[[str], labs.LabResult]) -> None:
    page = results(name).report.read_text(encoding="utf-8")
    assert len(page) < 1_500_000
    assert "default-src 'none'" in html.unescape(page)
    assert "<script" not in page
    assert 'src="http' not in page
    assert all(f'id="q{number}"' in page for number, _ in enumerate(results(name).answers, 1))


def measured_words(table: dict[str, Any]) -> list[str]:
    """The words of a table without its columns of published figures."""
    own = [place for place, column in enumerate(table["columns"]) if "published" not in column.casefold()]
    cells = [row[place] for row in table["shown"] for place in own]
    return [table["title"], table["note"], *(table["columns"][place] for place in own), *cells]


def made(*measures: Callable[[Book], Found], published: str = "") -> Lab:
    """A lab of these questions."""
    asked = tuple(question("How many?", published=published)(measure) for measure in measures)
    return Lab(name="made", title="Made", words="For tests.", questions=asked)


def refusal(lab: Lab, folder: Path) -> str:
    with pytest.raises(CheckFailedError) as caught:
        Book(lab, folder=folder).ask(lab.questions[0])
    return str(caught.value)


def test_an_answer_with_a_number_that_no_cited_table_holds_is_refused(tmp_path: Path) -> None:
    def measure(book: Book) -> Found:
        return Found(answer="It is 42 of 100.", evidence=(book.table("t", "Counts", ("n",), [(42,)]),))

    assert "100" in refusal(made(measure), tmp_path)


def test_numbers_from_a_thousand_on_are_those_of_the_tables_however_they_are_written(tmp_path: Path) -> None:
    def told(words: str) -> Lab:
        def measure(book: Book) -> Found:
            return Found(answer=words, evidence=(book.table("t", "Counts", ("n",), [(7500,), (120435,)]),))

        return made(measure)

    for words in ("7,500 and 120,435.", "7500 and 120435."):
        lab = told(words)
        assert Book(lab, folder=tmp_path).ask(lab.questions[0]).answer == words
    assert "7501" in refusal(told("7,501 and 120,435."), tmp_path)
    assert "500" in refusal(told("500."), tmp_path)


def test_the_published_figure_is_no_figure_of_ours(tmp_path: Path) -> None:
    def quotes(book: Book) -> Found:
        return Found(answer="41.", ours="42", evidence=(book.table("t", "Counts", ("n",), [(41,)]),), agrees=True)

    def repeats(book: Book) -> Found:
        table = book.table("t", "Counts", ("n", "published"), [(41, 42)])
        return Found(answer="41.", ours="42", evidence=(table,), agrees=True)

    assert "42" in refusal(made(quotes, published="42"), tmp_path)
    assert "42" in refusal(made(repeats, published="42"), tmp_path)


def test_values_that_an_exercise_asks_for_are_measured_and_complete(tmp_path: Path) -> None:
    def other(book: Book) -> Found:
        table = book.table("t", "Counts", ("n",), [(41,)])
        return Found(answer="41.", evidence=(table,), values={"m": 41})

    def unmeasured(book: Book) -> Found:
        return Found(answer="41.", evidence=(book.table("t", "Counts", ("n",), [(41,)]),), values={"n": 42})

    asked = [
        Lab(name="made", title="Made", words="", questions=(question("?", asks=("n",))(part),))
        for part in (other, unmeasured)
    ]
    assert "asks for" in refusal(asked[0], tmp_path)
    assert "not measured" in refusal(asked[1], tmp_path)


@pytest.mark.parametrize("name", labs.names())
def test_a_lab_trains_the_networks_that_it_says_and_no_others(
    name: str, results: Callable[[str], labs.LabResult]
) -> None:
    trained = {run.name for run in results(name).runs if run.with_name(f"{run.name}.asked.json").is_file()}
    assert trained == set(planned_runs(labs.open_book(name)))


@pytest.mark.parametrize("name", labs.names())
def test_every_question_of_a_lab_that_trains_asks_an_exercise_for_values(name: str) -> None:
    lab = labs.get(name)
    assert lab.networks is None or all(asked.asks for asked in lab.questions)


@pytest.mark.parametrize(
    ("name", "runs"),
    [("architectures", 33), ("segmentation", 10), ("cifar10-dense-and-cnn", 12), ("cifar10-training", 20)],
)
def test_the_full_form_of_a_lab_has_its_seeds(name: str, runs: int) -> None:
    assert len(planned_runs(labs.open_book(name, quick=False))) == runs


def test_an_answer_without_evidence_is_refused(tmp_path: Path) -> None:
    assert "without evidence" in refusal(made(lambda book: Found(answer="Yes.", evidence=())), tmp_path)


def test_a_disagreement_without_a_reason_is_refused(tmp_path: Path) -> None:
    def measure(book: Book) -> Found:
        table = book.table("t", "Counts", ("n",), [(42,)])
        return Found(answer="42", ours="42", agrees=False, evidence=(table,))

    assert "without a reason" in refusal(made(measure, published="41"), tmp_path)


@pytest.mark.parametrize(
    ("published", "agrees", "above"),
    [((0.5, 0.5), True, False), ((0.5, 0.3), False, True), ((0.3, 0.7), False, False), ((0.7, 0.7), False, False)],
)
def test_ours_is_above_where_it_is_higher_wherever_it_differs(
    published: tuple[float, float], agrees: bool, above: bool, tmp_path: Path
) -> None:
    book = Book(made(), folder=tmp_path, quick=False)
    found = agreement(book, [(Score(0.5, 0.4, 0.6), share) for share in published])
    assert (found["agrees"], found.get("above", False)) == (agrees, above)


def test_a_finished_run_is_not_trained_again_and_other_settings_are_refused(tmp_path: Path) -> None:
    settings = {"name": "a", "model": "dense", "epochs": 1, "subset": "train=100"}
    lab = made()
    first = Book(lab, folder=tmp_path).train("digits", **settings)
    stamp = (first.path / "scores.json").stat().st_mtime_ns
    again = Book(lab, folder=tmp_path).train("digits", **settings)
    assert (again.path / "scores.json").stat().st_mtime_ns == stamp
    with pytest.raises(RunError, match="something else"):
        Book(lab, folder=tmp_path).train("digits", **{**settings, "epochs": 2})


def test_a_lab_knows_its_runs_again_from_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(out: Path | str) -> dict[str, Any]:
        book = labs.open_book("convolution", out=out)
        run = book.train(write_shapes(book.folder / "shapes.npz", 60), name="a", model="dense", epochs=1)
        return json.loads(run.path.with_name("a.asked.json").read_text(encoding="utf-8"))

    first = asked(tmp_path / "labs")
    monkeypatch.chdir(tmp_path)
    assert asked("labs") == first


@pytest.mark.parametrize("name", labs.names())
def test_a_lab_is_a_notebook_that_asks_every_question_and_runs(
    name: str, results: Callable[[str], labs.LabResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    folder = results(name).report.parent.parent.parent  # where `labs/` holds the runs, which are not trained again
    path = labs.notebook(name, folder / f"{name}.ipynb")
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    code = "\n".join(cell.source for cell in document.cells if cell.cell_type == "code")
    assert code.count("book.ask(") == len(labs.get(name).questions)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Book, "train", shortly)
    exec(compile(code, "lab.ipynb", "exec"), {"__name__": "__main__"})


def test_the_command_prints_answers_and_its_json_holds_what_the_report_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "run", "convolution", "--quick", "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"lab", "runs", "tables", "answers", "report"} <= set(document)
    assert {"question", "answer", "evidence", "published", "ours"} <= set(document["answers"][0])
    assert main(["lab", "show", "convolution"]) == 0
    assert "526" in capsys.readouterr().out
    assert main(["lab", "list"]) == 0
    assert "convolution" in capsys.readouterr().out


def test_an_unknown_lab_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="convolution"):
        labs.get("convolutions")


def test_a_run_that_was_stopped_goes_on_when_the_lab_is_run_again(tmp_path: Path) -> None:
    class Stop(opsin.Callback):
        def on_epoch(self, context: opsin.EpochContext) -> None:
            raise KeyboardInterrupt

    settings = {"name": "a", "model": "dense", "epochs": 3, "subset": "train=200"}
    lab, folder = made(), tmp_path / "runs"
    with pytest.raises((KeyboardInterrupt, opsin.InterruptedRunError)):
        opsin.train("digits", out=folder, report=False, quiet=True, callbacks=[Stop()], **settings)
    assert not (folder / "a" / "scores.json").is_file()
    asked = {"data": "digits", "root": None, "model": "dense", "epochs": 3, "subset": "train=200"}
    (folder / "a.asked.json").write_text(json.dumps(asked), encoding="utf-8")
    run = Book(lab, folder=tmp_path).train("digits", **settings)
    assert (folder / "a" / "scores.json").is_file()
    assert sum(event["event"] == "epoch" for event in run.log) == 3
