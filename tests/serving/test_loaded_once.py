"""A server that looks at its folder for new models leaves alone those that it has; how many threads they have."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from serving.triton.instances import INSTANCES
from serving.triton.launcher import POLL_S, TritonServer
from serving.triton.repository import write_repository


def test_models_are_loaded_once_and_their_folders_stay_as_they_are(tiny_artifact: Path, tmp_path: Path) -> None:
    names = write_repository(tiny_artifact, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with TritonServer(tmp_path) as server:
        # Two looks, wherever in between the server is now.
        time.sleep(3 * POLL_S)
        # A server whose port another program took before it listened was started anew, and wrote here too.
        lines = server.log_file.read_text().splitlines()
        log = "\n".join(line for line in lines if f" {server.pid} " in line)
    assert Counter(re.findall(r'"loading: (\w+):\d+"', log)) == dict.fromkeys(names, 1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    one_thread = Counter(re.findall(r"(\w+): one thread, as a run is short", log))
    assert one_thread == {name: INSTANCES for name in names if name.endswith("_encoder")}
