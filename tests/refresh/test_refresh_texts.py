"""Texts of a refresh list, whatever their characters, in the description that a refresh writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_spark.catalog import dataset as catalog
from mnist_spark.refresh.reader import parse
from mnist_spark.refresh.source import Sources
from tests.support.idxfiles import random_pair
from tests.support.publish import publish

# All that TOML allows: every character but surrogates, which are no characters.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(max_examples=40)
@given(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, min_size=10, max_size=10))
@example("\x7f", "a\x00b", '"\\\r\n\t', ["\x85", "\u2028", "\ufeff", "\U0010ffff", *"456789"])
def test_texts_come_back_as_they_are(title, description, licence, classes):
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        publish(home / "out", train=random_pair(20, 3, 2))
        images, labels = ([f"out/train-{role}.gz"] for role in ("images", "labels"))
        own = {"title": title, "description": description, "licence": licence, "classes": classes}
        own["splits"] = {"train": {"images": images[0], "labels": labels[0]}}
        listed = {"datasets": {"own": own}, "tables": {"t": {"dataset": "own", "target": "t"}}}
        (config,) = parse(tomli_w.dumps(listed), home / "refresh.toml")
        found = Sources(home / "cache", dry_run=False).of(config)
        dataset = catalog.find(found.argument)
    assert (dataset.title, dataset.description, dataset.licence) == (title, description, licence)
    assert dataset.classes == tuple(classes)
