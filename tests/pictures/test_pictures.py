"""Pictures: which records they show, what is written on them, and that all of it can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mnist_spark.catalog import dataset as catalog
from mnist_spark.cli.main import main
from mnist_spark.errors import TableError, UsageError
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.pictures import plots as pictures
from mnist_spark.pictures.plots import open_records
from tests.support import tablefiles
from tests.support.idxfiles import random_pair, write_dataset

SPLITS = {"train": 300, "test": 40}
LAYOUTS = ("columns", "binary", "array", "image")
PLOTS = ("plot_digits", "plot_classes", "plot_labels", "plot_means", "preview")


@pytest.fixture(scope="module")
def tabular(tmp_path_factory):
    """Random images of 4×4 pixels, of a dataset that isn't in the catalog."""
    return generated(tmp_path_factory.mktemp("square"), (4, 4))


def generated(folder, shape):
    pairs = {name: random_pair(n, *shape, seed=n) for name, n in SPLITS.items()}
    dataset = write_dataset(folder / "in", pairs, image_shape=shape)
    return TabularDataset(dataset, tuple(SPLITS), str(folder / "in"), str(folder / "cache"))


def written(tabular, layout, kind, path):
    """The dataset as a table in several files, its rows in no order."""
    rows = tablefiles.rows(tabular.dataset, layout, Path(tabular.source), Path(tabular.cache))
    rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    noted = {"mnist_spark.dataset": tabular.dataset.name}
    if kind == "delta":
        tablefiles.write_delta(path, rows, noted, files=3)
    else:
        tablefiles.write_parquet(path, rows, noted)
    return path


@pytest.mark.parametrize("kind", ["delta", "parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_has_the_datasets_records(tabular, tmp_path, layout, kind):
    images, labels = tabular.to_numpy()
    places = np.array([339, 0, 12, 300, 299, 5])
    for what in (tabular, written(tabular, layout, kind, tmp_path / "t")):
        records = open_records(what)
        assert records.splits == SPLITS
        assert records.labels.tolist() == labels.tolist()
        assert (records.images(places) == images[places]).all()
        assert np.allclose(records.means()[3], images[labels == 3].mean(axis=0))


def test_the_layout_image_says_its_shape(tmp_path):
    oblong = generated(tmp_path, (4, 3))
    images, _ = oblong.to_numpy()
    table = written(oblong, "image", "delta", tmp_path / "t")
    assert (open_records(table).images(np.arange(340)) == images).all()
    with pytest.raises(TableError, match="shape of the images is unknown.*12 pixels"):
        open_records(written(oblong, "binary", "delta", tmp_path / "u"))


def test_records_that_are_far_apart(tabular, tmp_path, monkeypatch):
    """Read in several goes, they come in the order in which they were asked for."""
    monkeypatch.setattr("mnist_spark.pictures.records._WINDOW_RECORDS", 10)
    images, labels = tabular.to_numpy()
    records = open_records(written(tabular, "columns", "parquet", tmp_path / "t"))
    places = np.random.default_rng(0).permutation(340)[:30]
    assert (records.images(places) == images[places]).all()
    assert np.allclose(records.means()[3], images[labels == 3].mean(axis=0))


def test_of_chosen_rows(tabular):
    chosen = tabular.skip(290).take_sample(0.5, seed=1)
    records = open_records(chosen)
    images, labels = chosen.to_numpy()
    assert (records.images(np.arange(len(labels))) == images).all()
    assert records.labels.tolist() == labels.tolist()
    assert {name: sum(counts) for name, counts in records.label_counts().items()} == records.splits
    assert open_records(tabular.skip(300)).splits == {"test": 40}


def texts(figure):
    """Everything that is written on a figure."""
    ticks = [tick for axes in figure.axes if axes.axison for tick in axes.get_yticklabels()]
    return [*figure.texts, *(text for axes in figure.axes for text in axes.texts), *ticks]


def words(figure):
    return [text.get_text() for text in texts(figure)]


def shown(figure):
    """The records' bytes, in their order."""
    return [image.get_array().tobytes() for axes in figure.axes for image in axes.images]


@pytest.fixture(scope="module", params=["mnist", "fashion-mnist"])
def real(request, real_data, tmp_path_factory):
    cache = str(tmp_path_factory.getbasetemp() / "real")
    source = str(real_data / request.param)
    return TabularDataset(catalog.find(request.param), ("train", "test"), source, cache)


@pytest.mark.parametrize("plot", PLOTS)
def test_nothing_is_cut_off_or_covered(real, plot):
    figure = getattr(pictures, plot)(real)
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts(figure)]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, words(figure)[i]
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, words(figure)[i]
        assert not box.count_overlaps(boxes[i + 1 :]), words(figure)[i]
    images = [image.get_window_extent(renderer) for axes in figure.axes for image in axes.images]
    for i, box in enumerate(boxes):
        assert not box.padded(-2).count_overlaps(images), words(figure)[i]
    written = {word.replace("/\n", "/").replace("\n", " ") for word in words(figure)}
    assert len(written & set(real.dataset.classes)) >= 8  # 30 random records may lack a class


def test_what_is_written_on_them(tabular):
    assert words(pictures.plot_digits(tabular, 7))[0] == "title of tiny: 7 of 340 records"
    labels = tabular.to_numpy()[1]
    counts = [str(n) for n in np.bincount(labels[:300], minlength=10)]
    bars = pictures.plot_labels(tabular)
    assert {"train: 300", "test: 40"} <= set(words(bars))
    assert [text.get_text() for text in bars.axes[0].texts] == counts
    # No more than there are.
    assert len(pictures.plot_digits(tabular, 10**6).axes[0].images) == 340
    assert len(pictures.plot_classes(tabular, 10**6).axes[0].images) == 340


def test_an_image_stands_below_its_label(tabular):
    images, labels = tabular.to_numpy()
    axes = pictures.plot_digits(tabular, 20, columns=7).axes[0]
    for image, text in zip(axes.images, axes.texts, strict=True):
        (place,) = np.flatnonzero((images == image.get_array()).all(axis=(1, 2)))
        assert text.get_text() == str(labels[place])
        left, right, bottom, top = image.get_extent()
        assert text.get_position() == pytest.approx(((left + right) / 2, top))
        assert bottom > top  # the axes count downwards, as the records' rows do


def test_rows_of_classes(tabular):
    images, labels = tabular.to_numpy()
    axes = pictures.plot_classes(tabular, 3).axes[0]
    shown = [np.flatnonzero((images == i.get_array()).all(axis=(1, 2)))[0] for i in axes.images]
    assert labels[shown].tolist() == [label for label in range(10) for _ in range(3)]


@pytest.mark.parametrize("plot", ["plot_digits", "plot_classes", "preview"])
def test_the_seed(tabular, plot):
    draw = getattr(pictures, plot)
    first = shown(draw(tabular, seed=1))
    assert first == shown(draw(tabular, seed=1))
    assert first != shown(draw(tabular, seed=2))


def test_no_global_state_and_shown_without_it(tabular):
    script = f"""
import sys
from mnist_spark import plot_digits
figure = plot_digits({str(tabular.dataset.mirrors[0] + "dataset.toml")!r})
assert "matplotlib.pyplot" not in sys.modules
sys.stdout.buffer.write(figure._repr_png_())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.startswith(b"\x89PNG")


def test_without_matplotlib():
    script = """
import sys
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
from mnist_spark.cli.main import main
sys.exit(main(["preview", "--dataset", "mnist", "-o", "x.png"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        'mnist-spark: matplotlib is not installed. Install "mnist-spark[plot]"\n'
    )


def test_nothing_to_draw(tabular):
    with pytest.raises(UsageError, match="no records"):
        pictures.plot_digits(tabular.take(0))
    with pytest.raises(UsageError, match="count.*1 or more"):
        pictures.plot_digits(tabular, 0)


def test_not_a_table_of_images(tmp_path):
    tablefiles.write_delta(tmp_path / "t", pa.table({"a": [1], "label": [2]}), {}, by=None)
    with pytest.raises(TableError, match="no column index, split"):
        pictures.preview(tmp_path / "t")


def test_preview(tabular, tmp_path, capsys):
    description = tabular.dataset.mirrors[0] + "dataset.toml"
    options = ["--source", tabular.source, "--cache", tabular.cache]
    target = written(tabular, "array", "delta", tmp_path / "t")
    picture = tmp_path / "p.png"
    for argv in (["--dataset", description, *options], [str(target)]):
        assert main(["preview", *argv, "-o", str(picture)]) == 0
        assert capsys.readouterr().out == f"{picture}\n"
        assert picture.read_bytes().startswith(b"\x89PNG")
        picture.unlink()


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (["nothing", "-o", "p.png"], 1, "there is no table"),
        (["t", "-o", "p.jpg"], 2, "a .png file"),
        (["t", "-o", "none/p.png"], 2, "a .png file"),
        (["t", "--dataset", "mnist", "-o", "p.png"], 2, "not allowed with"),
        (["-o", "p.png"], 2, "is required"),
        (["--dataset", "nope", "-o", "p.png"], 2, "one of mnist"),
    ],
)
def test_preview_fails_in_a_line(tmp_path, monkeypatch, capsys, argv, code, line):
    monkeypatch.chdir(tmp_path)
    try:
        got = main(["preview", *argv])
    except SystemExit as error:
        got = error.code
    assert got == code
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert not list(tmp_path.iterdir())
