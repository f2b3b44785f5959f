"""A forked program does what one does that is started anew: both run in every test but the last two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from forked_python import ForkedPython

TELL = """
import json, os, signal, sys, tempfile, threading
print("ready", flush=True)
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "path": sys.path[0], "name": __name__, "file": __file__,
    "environment": dict(os.environ), "temporary": tempfile.gettempdir(), "stdout": sys.stdout.encoding,
    "parent": os.getppid(), "leads": os.getsid(0) == os.getpid(), "threads": threading.active_count(),
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
    "asked": sys.stdin.read(),
}))
"""
Start = type[Popen[str]]


@pytest.fixture(params=[Popen, ForkedPython])
def start(request: pytest.FixtureRequest) -> Start:
    return request.param


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "program.py"


def ended(start: Start, program: Path, code: str, **options: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `code`."""
    program.write_text(code)
    with start([sys.executable, str(program)], stdout=PIPE, stderr=PIPE, text=True, **options) as process:
        said = process.communicate(timeout=60)
    return process.returncode, *said


def test_it_has_its_own_streams_folder_environment_and_session(start: Start, program: Path) -> None:
    program.write_text(TELL)
    (program.parent / "in").mkdir()
    environment = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    environment |= {"TMPDIR": str(program.parent / "in"), "COLOUR": "grün", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(program), "--a", "b c", "ü"]
    options = {"cwd": program.parent / "in", "env": environment, "start_new_session": True}
    with start(command, stdin=PIPE, stdout=PIPE, text=True, **options) as process:
        shown = Path(f"/proc/{process.pid}")
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("?")  # it goes on when standard input is closed
        assert {"COLOUR=grün"} <= set((shown / "environ").read_text().split("\0"))
        assert (shown / "cmdline").read_text().rstrip("\0").split("\0") == command
        facts = json.loads(process.communicate(timeout=60)[0])
    assert facts.pop("parent") == os.getpid()
    assert facts.pop("environment").items() >= environment.items()
    assert facts == {
        "arguments": command[1:],
        "folder": str(program.parent / "in"),
        "path": str(program.parent),
        "name": "__main__",
        "file": str(program),
        "temporary": environment["TMPDIR"],
        "leads": True,
        "asked": "?",
        "threads": 1,
        "stdout": "utf-8",
        "signals": [str(signal.default_int_handler), str(signal.SIG_DFL), str(signal.SIG_IGN)],
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('out')", (0, "out\n", "")),
        ("import sys; sys.exit(7)", (7, "", "")),
        ("import sys; sys.exit('no')", (1, "", "no\n")),
        ("import atexit; atexit.register(print, 'last'); print('first')", (0, "first\nlast\n", "")),
        ("import os; os._exit(3)", (3, "", "")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", (-signal.SIGKILL, "", "")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", (-signal.SIGTERM, "", "")),
    ],
)
def test_it_ends_as_its_program_says(
    start: Start, program: Path, code: str, expected: tuple[int, str, str]
) -> None:
    assert ended(start, program, code) == expected


@pytest.mark.parametrize(("error", "code"), [("OSError", 1), ("KeyboardInterrupt", -signal.SIGINT)])
def test_an_error_that_nobody_catches_is_told(start: Start, program: Path, error: str, code: int) -> None:
    found, out, said = ended(start, program, f"print('before')\nraise {error}")
    assert (found, out) == (code, "before\n")
    assert said.startswith("Traceback")
    assert said.splitlines()[-1] == error


def test_one_stream_can_take_both(start: Start, program: Path) -> None:
    program.write_text("import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr)")
    with start([sys.executable, str(program)], stdout=PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.communicate(timeout=60)[0] == "a\nb\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_is_interrupted_and_killed(start: Start, program: Path, number: signal.Signals) -> None:
    program.write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with start([sys.executable, str(program)], stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in said) == (number is signal.SIGINT)


def test_the_environments_own_commands_run(start: Start) -> None:
    command = [str(Path(sys.executable).with_name("protoclip")), "index", "info", "nowhere"]
    with start(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said.count("\n")) == (2, "", 1)
    assert "nowhere" in said


def test_torch_is_imported_and_has_the_threads_of_the_environment(program: Path) -> None:
    code = "import sys\nprint('torch' in sys.modules, sys.modules['torch'].get_num_threads())"
    for count in (1, 2):
        environment = {**os.environ, "OMP_NUM_THREADS": str(count)}
        assert ended(ForkedPython, program, code, env=environment) == (0, f"True {count}\n", "")


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (["/bin/true"], {}, "only python -m MODULE"),
        ([sys.executable, "-c", "print()"], {}, "only python -m MODULE"),
        ([sys.executable, "-m", "json"], {"env": {**os.environ, "PYTHONHASHSEED": "1"}}, "PYTHONHASHSEED"),
        ([sys.executable, "-m", "json"], {"env": {**os.environ, "LONG": 2**16 * "x"}}, "bytes of environment"),
        ([sys.executable, "-m", "json"], {"process_group": 0}, "process_group"),
    ],
)
def test_what_it_cannot_be_is_refused(command: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForkedPython(command, **options)
