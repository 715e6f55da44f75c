"""The exercise form: questions without answers, and answers that are compared with what their own runs measured."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from opsin import labs
from opsin.cli import main
from opsin.errors import ConfigError
from opsin.labs.exercises import agrees, check_answers
from opsin.labs.lab import Book, Found, Lab, question
from opsin.types import Score

RIGHT = {
    "Gaussian, full": 526,
    "Gaussian, same": 512,
    "Gaussian, valid": 498,
    "Sobel X, full": 514,
    "Sobel X, same": 512,
}


def measured(book: Book) -> Found:
    run = book.train("digits", name="a", model="dense", epochs=1, subset="train=120", seed=0)
    table = book.table("t", "Accuracy", ("val",), [(run.scores["val"]["accuracy"],)])
    accuracy = run.scores["val"]["accuracy"]
    return Found(answer=f"{table.shown[0][0]}.", ours=table.shown[0][0], evidence=(table,), values={"val": accuracy})


LAB = Lab(name="made", title="Made", words="For tests.", questions=(question("How good?", asks=("val",))(measured),))


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", labs.names())
def test_an_exercise_asks_every_question_and_holds_no_function_that_answers_one(name: str, tmp_path: Path) -> None:
    code = code_of(labs.exercise(name, tmp_path))
    whole = "\n".join(code)
    ast.parse(whole)
    assert "opsin lab check" in labs.exercise(name, tmp_path).read_text(encoding="utf-8")
    for asked in labs.get(name).questions:
        assert f"book.answer('{asked.name}'" in whole
        assert f"def {asked.name}(" not in whole
    assert "LAB = " not in whole
    assert "PUBLISHED" not in "".join(part for part in code if "=" in part and part.startswith("PUBLISHED"))


def test_an_exercise_names_the_functions_that_measure_what_a_question_asks(tmp_path: Path) -> None:
    cells = json.loads(labs.exercise("cifar10-cnn", tmp_path).read_text(encoding="utf-8"))["cells"]
    text = ["".join(cell["source"]) for cell in cells if "Of use: " in "".join(cell["source"])]
    (layers,) = (part for part in text if "in which layer are most" in part)
    assert "`opsin.plan`" in layers
    assert "`parameter_rows`" in layers
    assert not any(word in part for part in text for word in ("`question`", "`Found`", "`len`", "`agreement`"))


@pytest.mark.parametrize("name", labs.names())
def test_the_scaffold_of_an_exercise_runs_as_it_stands_and_checks_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "\n".join(code_of(labs.exercise(name, tmp_path)))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{name}.ipynb", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.count("not answered") == len(labs.get(name).questions)
    found = labs.check(name, tmp_path)
    assert {answer.verdict for answer in found} == {"not answered"}


@pytest.mark.parametrize(
    ("given", "value", "right"),
    [
        (94.4, Score(0.9437, 0.93, 0.95), True),
        ("94.4 %", Score(0.9437, 0.93, 0.95), True),
        (0.944, Score(0.9437, 0.93, 0.95), True),
        (94.5, Score(0.9437, 0.93, 0.95), False),
        (0, Score(0.004), False),
        (903_400, 903_400, True),
        ("903,400", 903_400, True),
        (903_401, 903_400, False),
        (1872, 1872.3, True),
        ("+1.3", "+1.3", True),
        ("94.5 %", "94.5 %", True),
        (94.5, "94.5 %", True),
        (0.945, "94.5 %", True),
        (93.5, "94.5 %", False),
        (-1.3, "+1.3", False),
        (0.0, 0.0, True),
        ("Yes", True, True),
        (False, True, False),
        ("GIoU ", "giou", True),
        ("IoU", "giou", False),
    ],
)
def test_a_value_agrees_at_the_digits_that_it_is_given_with(given: Any, value: Any, right: bool) -> None:
    assert agrees(given, value) is right


def test_an_answer_is_compared_with_the_students_own_run(tmp_path: Path) -> None:
    book = Book(LAB, folder=tmp_path)
    book.answer("measured", {"val": 0.5})
    reader = Book(LAB, folder=tmp_path, trains=False)
    assert [answer.verdict for answer in check_answers(reader)] == ["not measured"]
    assert not (tmp_path / "runs/a").exists()
    run = book.train("digits", name="a", model="dense", epochs=2, subset="train=120", seed=3)  # the student's choice
    for given, verdict in ((run.scores["val"]["accuracy"], "agrees"), (0.001, "differs"), (None, "not answered")):
        book.answer("measured", {"val": given})
        assert [answer.verdict for answer in check_answers(Book(LAB, folder=tmp_path, trains=False))] == [verdict]


def test_an_answer_in_words_agrees_if_its_numbers_were_measured_and_ours_are_among_them(tmp_path: Path) -> None:
    lab = Lab(name="made", title="Made", words="For tests.", questions=(question("How good?")(measured),))
    book = Book(lab, folder=tmp_path)
    ours = measured(book).ours
    for words, verdict in ((f"It reaches {ours}.", "agrees"), (f"{ours}, or 12.34", "differs"), ("Good.", "differs")):
        book.answer("measured", {"in words": words})
        assert check_answers(Book(lab, folder=tmp_path, trains=False))[0].verdict == verdict


def test_a_question_or_a_value_that_is_not_asked_is_refused(tmp_path: Path) -> None:
    book = Book(LAB, folder=tmp_path)
    with pytest.raises(ConfigError, match="measured"):
        book.answer("measure", {"val": 1})
    with pytest.raises(ConfigError, match="other values"):
        book.answer("measured", {"test": 1})
    with pytest.raises(ConfigError, match="no answers"):
        labs.check("convolution", tmp_path)


def test_a_student_goes_from_an_empty_notebook_to_a_checked_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert main(["lab", "run", "convolution", "--exercise", str(tmp_path)]) == 0
    path = tmp_path / "convolution.ipynb"
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    for cell in document.cells:
        if cell.cell_type == "code" and "book.answer('sizes'" in cell.source:
            measured_here = "opsin.filter_image(photo(SIDE)[:1], SOBEL_X).convolved['valid'].shape[1]"
            cell.source = f"book.answer('sizes', {{**{RIGHT}, 'Sobel X, valid': {measured_here}}})"
        if cell.cell_type == "code" and "book.answer('stacks'" in cell.source:
            cell.source = cell.source.replace(
                "'pixels lost by a 15x15 filter': None", "'pixels lost by a 15x15 filter': 15"
            )
    nbclient.NotebookClient(document, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.text for output in document.cells[-1].outputs)
    assert "agrees How large" in printed
    capsys.readouterr()
    assert main(["lab", "check", "convolution", str(tmp_path), "--json"]) == 3
    answers = {answer["name"]: answer for answer in json.loads(capsys.readouterr().out)["answers"]}
    assert answers["sizes"]["verdict"] == "agrees"
    assert answers["stacks"]["verdict"] == "differs"
    assert answers["stacks"]["wrong"] == ["pixels lost by a 15x15 filter"]
    assert answers["effects"]["verdict"] == "not answered"
    assert main(["lab", "check", "convolution", str(tmp_path)]) == 3
    out = capsys.readouterr().out
    assert "1 of 5 agree" in out
    assert "14" not in out.split("stack")[1].splitlines()[1]
