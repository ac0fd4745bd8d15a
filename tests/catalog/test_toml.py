"""Descriptions that are written as TOML are read as the same, whatever characters they have."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog import toml_lines
from mnist_spark.catalog.dataset import describe, parse
from mnist_spark.catalog.toml_lines import lines_of

# All that TOML allows: every character but surrogates, which are no characters.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\:", min_codepoint=0x20),
    min_size=1,
).filter(lambda name: name not in (".", ".."))
SIZES = st.integers(0, 1 << 62)


def digests(length: int) -> st.SearchStrategy[str | None]:
    return st.none() | st.text("0123456789abcdef", min_size=length, max_size=length)


def a_file(name: str) -> st.SearchStrategy[catalog.File]:
    return st.builds(
        catalog.File, st.just(name), SIZES, st.none() | SIZES, digests(64), digests(32), digests(64)
    )


@st.composite
def datasets(draw: st.DrawFn) -> catalog.Dataset:
    split_names = draw(st.lists(st.sampled_from(["train", "test", "a.b", "0-1"]), min_size=1,
                                unique=True))  # fmt: skip
    files = iter(draw(st.lists(NAMES, min_size=2 * len(split_names), max_size=2 * len(split_names),
                               unique=True)))  # fmt: skip
    splits = tuple(
        catalog.Split(name, draw(SIZES), draw(a_file(next(files))), draw(a_file(next(files))))
        for name in split_names
    )
    dataset = catalog.Dataset(
        *(draw(TEXTS) for _ in range(7)),
        image_shape=(draw(st.integers(1, 999)), draw(st.integers(1, 999))),
        classes=tuple(draw(st.lists(TEXTS, min_size=1))),
        mirrors=("https://host/é/",),
        splits=splits,
    )
    if draw(st.booleans()):
        dataset = dataclasses.replace(
            dataset,
            generated=draw(st.booleans()),
            archive=catalog.Archive(draw(NAMES), draw(SIZES), draw(TEXTS) + "/", "0" * 64),
            first_label=draw(st.integers(0, 9)),
            extra_labels=(("writer", draw(TEXTS)), ("b", draw(TEXTS))),
            unconfirmed=draw(TEXTS),
        )
    return dataset


PLAIN = catalog.Dataset(
    "\x7f", "\x7f", "a\x00b", '"\\\r\n\t', "\x85\u2028", "\ufeff", "\U0010ffff",
    (28, 28), ("\x7f", ""), ("https://host/",),
    (catalog.Split("all-of-it", 1, catalog.File("\x7f.gz", 1), catalog.File("'\"", 1)),),
)  # fmt: skip


@given(datasets())
@example(PLAIN)
def test_what_is_written_is_read_as_the_same(dataset):
    assert parse(describe(dataset), "f.toml") == {dataset.name: dataset}


@pytest.mark.parametrize("dataset", catalog.datasets().values(), ids=catalog.datasets())
def test_the_published_datasets_too(dataset):
    assert parse(describe(dataset), "f.toml") == {dataset.name: dataset}


def test_lines():
    text = '''\
# a comment = 1
a = "\u2028"

[t]            # line 4
x = [
  "[no.header]",
  ["y"],
]
y.z = """
[t.q]
w = 1
"""
[ "odd . name" . 'it' ]
deep = {in = {it = 1}}
[[many]]
k = 1
[[many]]
k = 2
'''
    assert lines_of(text) == {
        ("a",): 2,
        ("t",): 4,
        ("t", "x"): 5,
        ("t", "y"): 9,
        ("t", "y", "z"): 9,
        ("odd . name",): 13,
        ("odd . name", "it"): 13,
        ("odd . name", "it", "deep"): 14,
        ("odd . name", "it", "deep", "in"): 14,
        ("odd . name", "it", "deep", "in", "it"): 14,
        ("many",): 15,
        ("many", "k"): 16,
    }


def test_lines_of_endless_statements_are_left_out(monkeypatch):
    monkeypatch.setattr(toml_lines, "_MOST_LINES", 100)
    many = "\n".join(["[t]", "x = [", *["1,"] * 200, "]", "y = 1"])
    assert lines_of(many) == {("t",): 1}
