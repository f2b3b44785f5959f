"""Self-contained HTML pages, one file each. They share a base template and a style sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def render_page(
    package: str, template: str, context: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> str:
    """The page rendered from a template of `package` with `context`.

    Args:
        package: whose folder `templates` holds the template and what it includes; what all pages share is there
            as `reports/page.html.j2` and `reports/style.html.j2`.
        filters: that the template uses, by name.

    Raises:
        jinja2.UndefinedError: the template names what is not in `context`.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

    shared = PrefixLoader({"reports": PackageLoader("protoclip.reports")})
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), shared]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template).render(context)
