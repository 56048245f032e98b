"""No fault of the machine loses work: kills, full disks, damaged files, two writers, Ctrl-C."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_same

import infer
import infer.run.checkpoint
import infer.run.loop
from infer.run.store import read, write

ROOT = Path(__file__).resolve().parents[1]
STEPS, WARMUP, CHUNK = 60, 20, 5
traces = deque()  # one entry per time Python runs through the density; a list would be read


def log_density(x):
    traces.append(0)
    return -0.5 * jnp.sum((x / jnp.array([1.0, 0.5])) ** 2) - 0.1 * jnp.sum(x**4)


TARGET = infer.from_log_density(log_density, jnp.zeros(2))


def fit(**options):
    usual = {"key": 3, "steps": STEPS, "warmup": WARMUP, "chains": 2, "progress": False}
    return infer.fit(TARGET, infer.MALA(), **(usual | {"chunk": CHUNK} | options))


@cache
def whole():
    """The run that nothing disturbs."""
    return fit()


# Killed ---------------------------------------------------------------------------------------

LIFE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import jax
jax.config.update("jax_num_cpu_devices", 4)
import infer.run.checkpoint
from test_reliability import fit

infer.run.checkpoint.SHARE = 1.0  # save after every chunk, whatever it costs
path, steps = sys.argv[2], int(sys.argv[3])

def report(progress):  # before the checkpoint of this chunk
    print(progress.trail.warmed + progress.trail.taken, flush=True)
    time.sleep(0.02)

resume = path if os.path.exists(path) else None
fit(steps=steps, callbacks=[report], checkpoint=path, resume=resume)
"""


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_is_one_run(kills, tmp_path):
    """Every life gets through some chunks; what it reported is in the file but for the last."""
    path, steps, rng = tmp_path / "run.infer", 40 * CHUNK * kills, np.random.default_rng(kills)
    before = 0
    for life in range(kills):
        command = [sys.executable, "-c", LIFE, str(Path(__file__).parent), str(path), str(steps)]
        child = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None and child.stderr is not None
        first = child.stdout.readline()
        time.sleep(rng.uniform(0, 0.4))
        child.kill()
        out, error = child.communicate()
        assert child.returncode == -signal.SIGKILL, (life, error)
        reported = max(map(int, [first, *out.split()]))
        saved = 0
        if path.exists():
            numbers = read(path)[1]["trail"]
            saved = numbers["warmed"] + numbers["taken"]
        assert saved >= max(before, reported - CHUNK)
        before = saved
    assert 0 < before < WARMUP + steps
    assert_same(fit(steps=steps, chunk=1000, resume=path), fit(steps=steps, chunk=999))


# Disks ----------------------------------------------------------------------------------------


@pytest.fixture
def limit():
    """A function that limits the size of files that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_does_not_end_a_run(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.run.checkpoint, "SHARE", 1.0)
    whole()  # compiles, so that nothing but the checkpoint meets the limit
    path, kept = tmp_path / "run.infer", []

    def fill(progress):
        if progress.phase == "steps" and progress.step == 30:
            kept.append(path.read_bytes())
            limit(len(kept[0]))

    with pytest.warns(RuntimeWarning, match="File too large.*The run goes on") as told:
        result = fit(checkpoint=path, callbacks=[fill])
    limit(resource.RLIM_INFINITY)
    assert len(told) == 1 and f"first {WARMUP + 25} iterations are kept" in str(told[0].message)
    assert_same(result, whole())
    assert path.read_bytes() == kept[0] and os.listdir(tmp_path) == ["run.infer"]
    assert_same(fit(resume=path), whole())


def test_a_save_that_works_again_is_not_held_against_the_disk(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.run.checkpoint, "SHARE", 1.0)
    whole()
    sizes = {10: 100, 30: resource.RLIM_INFINITY, 40: 100, 45: resource.RLIM_INFINITY}

    def squeeze(progress):
        if progress.phase == "steps" and progress.step in sizes:
            limit(sizes[progress.step])

    with pytest.warns(RuntimeWarning, match="cannot be written") as told:
        result = fit(checkpoint=tmp_path / "run.infer", callbacks=[squeeze])
    assert len(told) == 2
    assert_same(infer.load(tmp_path / "run.infer", TARGET, infer.MALA()), result)


@pytest.mark.parametrize(
    "path, message",
    [
        ("file/run.infer", "Not a directory"),
        ("folder", "Is a directory"),
        pytest.param(
            "/proc/nowhere/run.infer",
            "cannot be written",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc"),
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_refused_before_compiling(path, message, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    result = whole()
    before = len(traces)
    for attempt in (
        lambda: fit(checkpoint=tmp_path / path, chains=7),
        lambda: result.extend(steps=CHUNK, checkpoint=tmp_path / path),
    ):
        with pytest.raises(OSError, match=message) as error:
            attempt()
        assert path in str(error.value) and "give a file in a folder that can" in str(error.value)
    assert len(traces) == before


SMALL_DISK = """
import numpy, runpy, sys
store = runpy.run_path(sys.argv[2])
path = sys.argv[1] + "/run.infer"
if sys.argv[3] == "ro":
    store["check_writable"](path)
store["write"](path, {"x": numpy.zeros(1000)}, {})
store["write"](path, {"x": numpy.ones(4000)}, {})
store["write"](path, {"x": numpy.random.default_rng(0).bytes(200_000)}, {})
"""


@pytest.mark.parametrize("option, message", [("ro", "Read-only file system"), ("rw", "No space")])
def test_a_real_disk(option, message, tmp_path):
    """A file system of 100 kB, full or read-only, mounted where nobody else sees it."""
    mount = f"mount -t tmpfs -o size=100k,{option} none {tmp_path}"
    usable = ["unshare", "-m", "sh", "-c", mount]
    if not shutil.which("unshare") or subprocess.run(usable, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    script = tmp_path.with_name("script.py")
    script.write_text(SMALL_DISK)
    python = f"{sys.executable} {script} {tmp_path} {ROOT}/infer/run/store.py {option}"
    look = f"ls {tmp_path}; sha256sum < {tmp_path}/run.infer"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && {python}; {look}"],
        capture_output=True,
        text=True,
    )
    assert message in done.stderr
    if option == "rw":
        write(tmp_path / "same", {"x": np.ones(4000)}, {})
        digest = hashlib.sha256((tmp_path / "same").read_bytes()).hexdigest()
        assert done.stdout.split("\n")[:2] == ["run.infer", f"{digest}  -"]
    else:
        assert f"cannot be written ({message})" in done.stderr and "run.infer" in done.stderr


# Files ----------------------------------------------------------------------------------------


def test_no_damaged_file_is_ever_read(tmp_path):
    """Cut at 60 lengths, then 500 files with one to three bits flipped at random places."""
    path, broken = tmp_path / "run.infer", tmp_path / "broken"
    whole().save(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    lengths = {0, 1, 7, 8, 9, 39, 40, 41, len(content) - 1, *rng.integers(len(content), size=51)}
    damaged = [content[:length] for length in sorted(lengths)] + [content + b"\0"]
    for flips in rng.integers(1, 4, size=500):
        bits = bytearray(content)
        for place in rng.choice(len(content), flips, replace=False):
            bits[place] ^= 1 << rng.integers(8)
        damaged.append(bytes(bits))
    for data in damaged:
        broken.write_bytes(data)
        with pytest.raises(ValueError, match="is damaged|is not a file written by infer"):
            read(broken)
    for use in (lambda: infer.load(broken), lambda: fit(resume=broken)):
        with pytest.raises(ValueError, match="is damaged"):
            use()


def test_of_two_writers_the_last_complete_file_stays(tmp_path):
    """What is read meanwhile is always what one of them wrote."""
    path = tmp_path / "run.infer"
    contents = [np.full(30_000, 1.0), np.full(50_000, 2.0)]
    write(path, {"x": contents[0]}, {"writer": 0})

    def work(i):
        for _ in range(60):
            write(path, {"x": contents[i]}, {"writer": i})

    writers = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        arrays, meta = read(path)
        np.testing.assert_array_equal(arrays["x"], contents[meta["writer"]])
        seen.append(meta["writer"])
    assert set(seen) == {0, 1}
    assert os.listdir(tmp_path) == ["run.infer"]


def test_a_run_says_that_another_one_writes_to_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(infer.run.checkpoint, "SHARE", 1.0)
    path, other = tmp_path / "run.infer", tmp_path / "other.infer"
    fit(key=4, checkpoint=other)

    def intrude(progress):
        if progress.phase == "steps" and progress.step in (20, 40):
            shutil.copy(other, tmp_path / "copy")
            os.replace(tmp_path / "copy", path)

    with pytest.warns(RuntimeWarning, match="another run writes to the checkpoint") as told:
        fit(checkpoint=path, callbacks=[intrude])
    assert len(told) == 1
    assert_same(fit(resume=path), whole())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(checkpoint=path, callbacks=[lambda progress: path.unlink(missing_ok=True)])
    assert_same(fit(resume=path), whole())


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path):
    names = ["run.infer.0123abcd.partial", "run.infer.89abcdef.partial", "mine.partial"]
    for name in names:
        (tmp_path / name).write_text("half")
    for name in names[1:]:
        os.utime(tmp_path / name, (0, time.time() - 4000))
    write(tmp_path / "run.infer", {}, {})
    assert sorted(os.listdir(tmp_path)) == ["mine.partial", "run.infer", names[0]]


# Ctrl-C ---------------------------------------------------------------------------------------


class Pressed:
    """Ctrl-C after a delay, once.

    Outside of a run Python's own handler would raise. Here it does so only before the first chunk;
    what comes later than the end of `fit` is counted instead, so that it cannot hit the test.
    """

    def __init__(self, delay):
        self.delay, self.over = delay, threading.Event()
        self.began = self.late = False
        self.thread = threading.Thread(target=self.press)

    def press(self):
        if not self.over.wait(self.delay):
            os.kill(os.getpid(), signal.SIGINT)

    def outside(self, number, frame):
        self.late = self.began
        if not self.began:
            raise KeyboardInterrupt

    def slowly(self, progress):
        self.began = True
        time.sleep(0.01)

    def fit(self):
        """The result of a run, None if there was none yet."""
        try:
            self.thread.start()
            return fit(callbacks=[self.slowly])
        except KeyboardInterrupt:
            return None
        finally:
            self.began = True
            self.over.set()
            self.thread.join()


@pytest.mark.parametrize("times", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_ctrl_c_at_any_moment_returns_what_there_is(times, monkeypatch):
    """Before the run there is nothing yet; from its first chunk on nothing is lost."""
    whole()
    rng, endings, late = np.random.default_rng(times), [], 0
    for _ in range(times):
        press = Pressed(rng.uniform(0, 0.3))
        outside = press.outside
        with monkeypatch.context() as patch:
            patch.setattr(signal, "default_int_handler", outside)
            before = signal.signal(signal.SIGINT, outside)
            result = press.fit()
            assert signal.signal(signal.SIGINT, before) is outside
        late += press.late
        if result is None:
            continue
        endings.append(result.outcome.ending)
        assert endings[-1] in (infer.Ending.INTERRUPTED, infer.Ending.FINISHED)
        taken = result.outcome.steps
        assert taken % CHUNK == 0 and result.z.shape[1] == taken
        np.testing.assert_array_equal(result.z, whole().z[:, :taken])
        if 0 < taken < STEPS:
            assert_same(result.extend(steps=STEPS - taken, progress=False), whole())
    assert endings.count(infer.Ending.INTERRUPTED) > times / 4
    assert late <= times / 10


def test_ctrl_c_twice_ends_at_once_and_the_checkpoint_is_kept(tmp_path):
    path = tmp_path / "run.infer"

    def press_twice(progress):
        if progress.phase == "steps" and progress.step == 20:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.001)  # not yet. A signal from os.kill may come late and join the first
            signal.raise_signal(signal.SIGINT)
            time.sleep(60)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=[press_twice], checkpoint=path)
    assert time.monotonic() - began < 50
    assert read(path)[1]["trail"]["taken"] == 20
    assert_same(fit(resume=path), whole())


def test_a_handler_of_ones_own_is_left_alone():
    got = []
    signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        result = fit(callbacks=[lambda p: os.kill(os.getpid(), signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(got) == (STEPS + WARMUP) // CHUNK
    assert_same(result, whole())


# Errors ---------------------------------------------------------------------------------------


def fails(*arguments):
    raise RuntimeError("the driver is gone")


def test_a_run_that_fails_keeps_its_last_chunk(tmp_path, monkeypatch):
    path = tmp_path / "run.infer"

    def unplug(progress):
        if progress.phase == "steps" and progress.step == 20:
            monkeypatch.setattr(infer.run.loop, "advance", fails)

    with pytest.raises(RuntimeError, match="the driver is gone") as error:
        fit(callbacks=[unplug], checkpoint=path)
    kept = f"its first {WARMUP + 20} iterations are kept: resume={str(path)!r}"
    assert kept in error.value.__notes__[0]
    monkeypatch.undo()
    assert_same(fit(resume=path), whole())


def test_a_run_that_took_no_step_leaves_an_older_checkpoint_alone(tmp_path, monkeypatch):
    path = tmp_path / "run.infer"
    fit(checkpoint=path)
    content = path.read_bytes()
    monkeypatch.setattr(infer.run.loop, "advance", fails)
    with pytest.raises(RuntimeError, match="the driver is gone") as error:
        fit(checkpoint=path)
    assert "nothing was written to" in error.value.__notes__[0]
    assert path.read_bytes() == content


def test_a_verdict_that_fails_leaves_the_run_in_its_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.infer"
    monkeypatch.setattr(sys.modules["infer.fit"], "conclude", fails)
    with pytest.raises(RuntimeError, match="the driver is gone") as error:
        fit(checkpoint=path)
    assert f"its first {WARMUP + STEPS} iterations" in error.value.__notes__[0]
    monkeypatch.undo()
    assert_same(infer.load(path, TARGET, infer.MALA()), whole())
