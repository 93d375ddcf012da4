"""Commands in a shell: characters it does not have, readers that leave, signals, files that are none of theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import interp_fast as itf
from interp_fast._cli import main

ROWS = np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32)
SOURCES = str(Path(itf.__file__).parents[1])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    return tmp_path


def start(*arguments, **environment):
    """A command in a process of its own, as a shell starts it: no signal is ignored."""
    return subprocess.Popen(
        [sys.executable, "-P", *arguments],
        env=os.environ | {"PYTHONPATH": SOURCES} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM)],  # noqa: PLW1509
    )  # fmt: skip


def fails(capsys, arguments, *words):
    """The command fails with one sentence on stderr that holds all words."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("interp-fast: error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


# What is printed

SAYS = """
import sys
from interp_fast._shell import say, shell
with shell():
    say(TEXT)
sys.exit(CODE)
"""


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "σ/α 2 ± ½ – R² 象"),
        ("ascii", "sigma/alpha 2 +- 1/2 - R2 ?"),
        ("cp1252", "sigma/alpha 2 ± ½ – R² ?"),
        ("latin-1", "sigma/alpha 2 ± ½ - R² ?"),
        ("ascii:replace", "?/? 2 ? ? ? R? ?"),
    ],
)
def test_text_is_printed_with_what_the_terminal_has(encoding, printed):
    with start(
        "-c", SAYS.replace("TEXT", repr("σ/α 2 ± ½ – R² 象")).replace("CODE", "0"), PYTHONIOENCODING=encoding
    ) as process:
        out, err = process.communicate()
        assert (process.returncode, err) == (0, b"")
        assert out.decode(encoding.partition(":")[0]) == printed + os.linesep


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("text", ["'a line'", "'a line\\n' * 100_000"], ids=["short", "long"])
def test_a_reader_that_leaves_is_no_error(text, code):
    """The verdict stands, and nothing is said."""
    with start("-c", SAYS.replace("TEXT", text).replace("CODE", str(code))) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == code


@pytest.mark.parametrize(
    "words",
    [["--help"], pytest.param(["check", "--backend", "reference"], marks=pytest.mark.wide)],
    ids=["help", "check"],
)
def test_commands_for_a_reader_that_leaves(words):
    with start("-m", "interp_fast", *words) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_errors_for_nobody():
    with start("-m", "interp_fast", "report", "x") as process:
        process.stderr.close()
        process.stdout.read()
        assert process.wait() == 2


# What is written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_leaves_nothing_behind(here, number):
    code = """
import interp_fast as itf, sys, time
from interp_fast import _cli
itf.sample = lambda *_, **__: [print("running", flush=True), time.sleep(60)]
sys.exit(_cli.main(["sample", "rows.npy", "--out", "s.npz"]))
"""
    with start("-c", code) as process:
        assert process.stdout.readline() == b"running\n"
        assert len(list(here.iterdir())) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (128 + number, b"")
        assert [path.name for path in here.iterdir()] == ["rows.npy"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["sample", "in.npz", "--out", "in.npz"], "in.npz"),
        (["sample", "in.npz:x", "--out", "./in.npz"], "in.npz:x"),
        (["sample", "link", "--out", "in.npz"], "link"),
        (["report", "r/samples.npz", "--out", "r"], "r/samples.npz"),
        (["report", "rows.npy", "--holdout", "r/samples.npz:x", "--out", "r/"], "r/samples.npz:x"),
    ],
)
def test_what_is_read_is_not_replaced(here, capsys, monkeypatch, arguments, name):
    (here / "r").mkdir()
    for file in ("in.npz", "r/samples.npz"):
        np.savez(file, x=ROWS)
    (here / "link").symlink_to("in.npz")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    fails(capsys, arguments, "--out", f"would replace {name}")
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


# What is read


def locked(path):
    """An archive of one array whose flag says that it is encrypted."""
    np.savez(path, x=ROWS)
    content = bytearray(path.read_bytes())
    for head in (b"PK\x03\x04", b"PK\x01\x02"):
        at = content.index(head) + (6 if head[2] == 3 else 8)
        content[at] |= 1
    path.write_bytes(content)


def test_files_that_are_something_else(here, capsys):
    np.savez("archive.npz", x=ROWS)
    (here / "archive.npz").rename(here / "archive.npy")
    fails(capsys, ["report", "archive.npy"], "archive.npy could not be read as npy", "name it .npz")
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("x", "no array")
    fails(capsys, ["report", "text.npz"], "text.npz could not be read as npz", "x is no array")
    locked(here / "locked.npz")
    fails(capsys, ["report", "locked.npz"], "locked.npz could not be read as npz", "encrypted")


def test_broken_files_never_end_in_a_traceback(here, capsys):
    """Any byte of a file changed, or its end missing: it is read, or refused by one sentence."""
    rng = np.random.default_rng(7)
    np.savez_compressed("a.npz", x=ROWS[:4])
    np.save("a.npy", ROWS[:4])
    refused = 0
    for name in ("a.npz", "a.npy"):
        content = (here / name).read_bytes()
        for k in rng.integers(0, len(content), 60).tolist():
            broken = bytearray(content)
            broken[k] ^= int(rng.integers(1, 256))
            (here / f"b{name[1:]}").write_bytes(broken[:k] if rng.random() < 0.1 else broken)
            code = main(["memorization", f"b{name[1:]}", f"b{name[1:]}"])
            refused += code == 2
            captured = capsys.readouterr()
            assert (code == 0 and captured.out) or (code == 2 and captured.err.count("\n") == 1), captured.err
    assert refused > 40
