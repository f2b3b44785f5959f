"""Tables at 80 columns: nothing is cut off."""

from __future__ import annotations

import io

from rich.console import Console

from protoclip.cli.export.output import report_table
from protoclip.reports.tables import narrow_table


def _shown(table: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(table)
    return stream.getvalue()


def test_long_names_are_folded_and_numbers_stay_whole() -> None:
    table = narrow_table(["name", *(f"recall\nat {k}" for k in range(9))], title="R")
    name = "a_name_that_is_longer_than_any_terminal_has_room_for"
    table.add_row(name, *["99.9"] * 9)
    shown = _shown(table)
    assert "…" not in shown
    assert shown.count("99.9") == 9
    assert name in "".join(line.split(" ")[1] for line in shown.splitlines() if line.startswith(" "))


def test_an_engines_row_fits() -> None:
    compared = {"max_abs_difference": 5.2e-7, "min_centred_cosine": 0.99999, "error_to_neighbour": 0.0021}
    encoder = {"by_batch_size": {"1": compared}, "adversarial": compared}
    answers = {"recall_at_1_image_to_text": [0.809, 0.801], "zero_shot_accuracy": [0.262, 0.273]}
    engine = {
        "name": "onnx_int8_static",
        "passed": True,
        "ran": True,
        "image": encoder,
        "text": encoder,
        "from_files": compared,
        "answers": answers,
        "pictures_per_s": 12345.6,
    }
    shown = _shown(report_table([engine]))
    for part in ("onnx_int8_static", "passed", "5.2e-07", "1.0000", "0.002", "80.1 -0.8", "27.3 +1.1", "12346"):
        assert part in shown
