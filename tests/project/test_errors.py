"""Errors: one line with all that is known, and they survive the way from an executor."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_spark import errors
from mnist_spark.errors import IdxError, MnistSparkError, UsageError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MnistSparkError)
]


def test_the_whole_line():
    error = IdxError(
        "label outside the classes",
        dataset="mnist",
        file="labels.idx",
        record_range="train[3:4]",
        url="https://host/labels",
        expected="0 to 9",
        got=11,
        hint="Try another source",
    )
    assert str(error) == (
        "label outside the classes (dataset mnist, file labels.idx, records train[3:4], "
        "url https://host/labels): expected 0 to 9, got 11. Try another source"
    )


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "what"),
        ({"expected": 1}, "what: expected 1"),
        ({"got": 0}, "what: got 0"),
        ({"expected": 0, "got": ""}, "what: expected 0, got"),
        ({"hint": "do"}, "what. do"),
        ({"file": "f", "hint": "do"}, "what (file f). do"),
    ],
)
def test_what_is_not_known_is_left_out(parts, line):
    assert str(MnistSparkError("what", **parts)) == line


@given(st.text(), st.text(), st.text(), st.text())
def test_always_a_single_line(what, file, got, hint):
    line = str(MnistSparkError(what, file=file, got=got, hint=hint))
    assert len(line.splitlines()) <= 1


def test_details_are_in_the_line_and_a_line_each():
    error = MnistSparkError("what", file="f", hint="Do", details=["a: 1\n", "b: \x1b[2J"])
    assert str(error) == "what (file f): a: 1; b: \\x1b[2J. Do"
    assert error.lines() == ["what (file f). Do", "a: 1", "b: \\x1b[2J"]
    copy = pickle.loads(pickle.dumps(error))
    assert copy.within(dataset="d").lines()[1:] == error.lines()[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_and_within_keep_everything(kind):
    parts = {"file": "f", "record_range": "train[0:1]", "url": "u", "expected": 1, "got": 2}
    error = kind("what", **parts, hint="do")
    error.add_note("seen on executor 3")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.file, copy.got, copy.hint) == (str(error), "f", 2, "do")
    told = error.within(dataset="mnist")
    assert type(told) is kind
    assert str(told) == str(error).replace("(file", "(dataset mnist, file")
    assert error.dataset is None


def test_exit_codes_and_builtin_kinship():
    assert len(KINDS) == 11
    for kind in KINDS:
        assert kind("what").exit_code == (2 if kind is UsageError else 1)
        assert issubclass(kind, ValueError) == (kind is UsageError)
