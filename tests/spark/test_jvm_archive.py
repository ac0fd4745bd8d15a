"""The archive of Java classes: made once, used afterwards, and never in the way."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyspark
import pytest

from mnist_spark.spark import jvm_archive, jvm_training
from mnist_spark.spark.java import find_java
from tests.support import jvm
from tests.support.processes import PROJECT, until

SESSION = """
from pathlib import Path
import psutil
import pyspark
from mnist_spark.spark import session
spark = session.session("local[1]", delta=False, batch=True)
(jvm,) = (p for p in psutil.Process().children(recursive=True) if p.name() == "java")
used = {line.split()[-1] for line in Path(f"/proc/{jvm.pid}/maps").read_text().splitlines()}
print(spark.range(3).count(), *sorted(Path(path).name for path in used if "spark-" in path
    and path.endswith(".jsa")))
"""
MAKE = """
import sys
from pathlib import Path
from mnist_spark.spark import jvm_training

def train(part):
    part.write_bytes(b"classes")
    sys.stdin.read()
    jvm_training._seal(part)

jvm_training._train = train
sys.exit(not jvm_training.make(Path(sys.argv[1])))
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")


def environment(cache: Path) -> dict[str, str]:
    """As a user has it: the tests' own archive is another one."""
    kept = {k: v for k, v in os.environ.items() if k != "SPARK_SUBMIT_OPTS"}
    return kept | {"MNIST_SPARK_CACHE": str(cache), "PYTHONPATH": str(PROJECT)}


def start_run(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SESSION],
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(run: subprocess.Popen[str]) -> str:
    out, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert "[cds" not in out + errors
    assert "VM warning" not in out + errors
    return out.strip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Where this machine's archive belongs, in an empty cache folder."""
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPARK_SUBMIT_OPTS", raising=False)
    return tmp_path / "cache" / "jvm" / jvm_archive.archive_name(find_java())


def makers(archive: Path) -> list[psutil.Process]:
    """The processes at work on it, which have its path among their arguments."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(archive) in process.cmdline():
                found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    for process in [p for each in processes for p in [*each.children(recursive=True), each]]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def complete(archive: Path, data: bytes = b"mnist-spark" + bytes(8)) -> None:
    archive.parent.mkdir(parents=True, mode=0o755)
    archive.write_bytes(data)
    archive.chmod(0o444)


def start_making(archive: Path) -> subprocess.Popen[str]:
    """In place of a JVM that writes the archive, this waits until its stdin is closed."""
    return subprocess.Popen([sys.executable, "-c", MAKE, archive], stdin=subprocess.PIPE, text=True)


def test_one_of_two_makers_makes_it_and_clears_what_a_killed_one_left(tmp_path):
    archive = tmp_path / "jvm" / "spark-4.2.0-0123456789abcdef.jsa"

    def parts() -> list[Path]:
        return list(archive.parent.glob(".*.part"))

    killed = start_making(archive)
    until(parts, "the first's file", pause=0.1)
    late = start_making(archive)
    assert late.wait() == 1
    assert len(parts()) == 1
    kill([psutil.Process(killed.pid)])
    killed.wait()
    assert not archive.exists()
    again = start_making(archive)
    until(lambda: len(parts()) == 1 and parts()[0].stat().st_size, "another file", pause=0.1)
    again.communicate()
    assert again.returncode == 0
    assert {path.name for path in archive.parent.iterdir()} - {f".{archive.name}.lock"} == {
        archive.name
    }
    assert jvm_archive.sealed(archive)


@pytest.fixture
def made(tmp_path) -> Path:
    """The tests' own, in a cache folder."""
    own = jvm.archive()
    place = tmp_path / "a cache" / "jvm" / own.name
    place.parent.mkdir(parents=True)
    place.symlink_to(own)
    return place


def test_it_has_classes(made):
    assert jvm_archive.sealed(made)
    assert made.stat().st_size > 50_000_000


@needs_proc
def test_the_first_run_starts_a_maker(here):
    """It outlives the run, is in its way by nothing, and no terminal is its own."""
    assert result(start_run(here.parents[1])) == "3"
    try:
        until(lambda: any(each.children() for each in makers(here)), "a maker", pause=0.1)
        (maker,) = makers(here)
        assert maker.nice() >= 10
        assert maker.terminal() is None
        assert {Path(f"/proc/{maker.pid}/fd/{fd}").readlink().name for fd in range(3)} == {"null"}
    finally:
        kill(makers(here))


@needs_proc
def test_the_next_run_uses_it(made):
    before = made.stat().st_ino
    assert result(start_run(made.parents[1])) == f"3 {made.name}"
    assert made.stat().st_ino == before
    assert not makers(made)


def classes_from(archive: Path, home: Path) -> tuple[int, str]:
    """How many classes spark-submit's JVM takes from the archive; what it prints besides."""
    loaded = home / "classes"
    options = " ".join(jvm_archive.read_options(archive))
    done = subprocess.run(
        [Path(pyspark.__file__).parent / "bin" / "spark-submit", "--version"],
        env=environment(home)
        | {
            "SPARK_SUBMIT_OPTS": f"{options} -Xlog:class+load:file={loaded}",
            "JAVA_HOME": find_java(),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "version" in done.stderr
    assert "cds" not in done.stdout + done.stderr
    return loaded.read_text().count("shared objects file (top)"), done.stdout


def test_the_jvm_takes_classes_from_a_good_archive(made, tmp_path):
    count, printed = classes_from(made, tmp_path)
    assert count > 500
    assert not printed


def test_the_jvm_ignores_a_damaged_archive(made, tmp_path):
    data = bytearray(made.read_bytes())
    for place in range(1 << 20, len(data), 1 << 20):
        data[place : place + 64] = b"\xff" * 64
    (tmp_path / "damaged.jsa").write_bytes(data)
    assert classes_from(tmp_path / "damaged.jsa", tmp_path) == (0, "")


def test_an_archive_that_is_cut_off_is_not_used(made, here):
    """The JVM would crash on it."""
    complete(here, made.read_bytes())
    assert jvm_archive.options(find_java())
    here.chmod(0o600)
    for size in (made.stat().st_size - 1, 1 << 20, 1, 0):
        os.truncate(here, size)
        assert jvm_archive.options(find_java()) == []


def test_the_jvm_ignores_an_archive_that_is_gone(tmp_path):
    assert classes_from(tmp_path / "none.jsa", tmp_path) == (0, "")


@needs_proc
def test_a_cache_that_can_not_be_written(monkeypatch):
    monkeypatch.delenv("SPARK_SUBMIT_OPTS", raising=False)
    monkeypatch.setenv("MNIST_SPARK_CACHE", "/proc/nowhere")
    monkeypatch.setattr(jvm_archive.atexit, "register", lambda *_: pytest.fail("would be made"))
    assert jvm_archive.options(find_java()) == []
    jvm_archive.make_at_exit(find_java())


def test_a_java_without_an_archive_of_its_own(tmp_path, here):
    """It can't make one either: the session goes without."""
    (tmp_path / "release").write_text('JAVA_VERSION="17.0.1"\n')
    assert jvm_archive.options(str(tmp_path)) == []
    jvm_archive.make_at_exit(str(tmp_path))
    assert not here.parent.exists()


def test_the_name_tells_javas_and_sparks_apart(tmp_path, monkeypatch):

    mine = jvm_archive.archive_name(find_java())
    spark_home = tmp_path / "spark"
    (spark_home / "jars").mkdir(parents=True)
    monkeypatch.setenv("SPARK_HOME", str(spark_home))
    other = jvm_archive.archive_name(find_java())
    (spark_home / "jars" / "a.jar").touch()
    another = jvm_archive.archive_name(find_java())
    assert len({mine, other, another}) == 3
    assert mine.startswith(f"spark-{pyspark.__version__}-")


def test_only_an_archive_that_nobody_else_can_write_is_used(here):
    java = find_java()
    complete(here)
    assert f'-XX:SharedArchiveFile="{here}"' in jvm_archive.options(java)
    here.parent.chmod(0o777)
    assert jvm_archive.options(java) == []
    here.parent.chmod(0o700)
    here.chmod(0o666)
    assert jvm_archive.options(java) == []
    here.chmod(0o444)
    if os.geteuid() == 0:
        os.chown(here, 1000, -1)
        assert jvm_archive.options(java) == []


def test_what_a_user_says_about_archives_is_left_alone(here, monkeypatch):
    complete(here)
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Xmx1g -Xshare:auto")
    assert jvm_archive.options(find_java()) == []


def test_a_folder_whose_name_no_option_can_hold(tmp_path, monkeypatch):
    monkeypatch.delenv("SPARK_SUBMIT_OPTS", raising=False)
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "a:b"))
    assert jvm_archive.options(find_java()) == []


def test_archives_that_are_not_used_go(here):
    """After updates of Java or Spark; the last three stay."""
    here.parent.mkdir(parents=True)
    now = time.time()
    for age in range(5):
        path = here.with_name(f"spark-4.2.0-{age:016x}.jsa")
        path.touch()
        os.utime(path, (now - age, now - age))
    jvm_training.remove_unused(here.parent)
    assert sorted(path.name[-5] for path in here.parent.iterdir()) == ["0", "1", "2"]
