"""What is public in Python and has no place of its own in the reference."""

from __future__ import annotations

import re

_SHOWN = re.compile(r"^::: (\S+)$", re.MULTILINE)


def names_left(page: str) -> str:
    """A line `::: module.NAME` for each public name that `page` does not show yet, in alphabetical order."""
    import protoclip
    import protoclip.client
    import protoclip.search

    shown = {name.rpartition(".")[2] for name in _SHOWN.findall(page)} | {"__version__"}
    lines = []
    for module in (protoclip, protoclip.client, protoclip.search):
        for name in sorted(set(module.__all__) - shown):
            lines.append(f"::: {module.__name__}.{name}")
            shown.add(name)
    return "\n".join(lines)
