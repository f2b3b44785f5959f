"""HTML pages. They share a base template and a style sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(
    package: str,
    template: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]],
    also: Sequence[str] = (),
) -> str:
    """The page rendered from a template of `package` with `context`.

    Args:
        package: whose folder `templates` holds the template and what it includes; what all pages share is there
            as `reports/page.html.j2` and `reports/style.html.j2`.
        filters: that the template uses, by name.
        also: more packages with templates, asked for those that `package` doesn't have.

    Raises:
        jinja2.UndefinedError: the template names what is not in `context`.
    """
    return page_environment(package, filters, also).get_template(template).render(context)


def page_environment(
    package: str, filters: Mapping[str, Callable[..., Any]], also: Sequence[str] = ()
) -> Environment:
    """What renders templates of `package`, as of `render_page`: to be kept where many pages are rendered."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

    shared = PrefixLoader({"reports": PackageLoader("protoclip.reports")})
    environment = Environment(
        loader=ChoiceLoader([*(PackageLoader(name) for name in (package, *also)), shared]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment
