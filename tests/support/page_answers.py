"""What a page of the gateway says, for tests."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from asgi_calls import Answer
from page_shop import Shop

from serving.gateway.app import create_app
from serving.gateway.class_banks import ClassBanks
from serving.gateway.indexes import Indexes
from serving.gateway.settings import make_settings
from serving.gateway.state import Gateway


def titles(answer: Answer) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'<b class="title">(.*?)</b>', answer.text)]


def said(answer: Answer) -> str:
    """The line of results, or of what is wrong."""
    found = re.search(r'data-status="(.*?)"', answer.text)
    assert found is not None
    return html.unescape(found[1])


def links(answer: Answer, label: str) -> list[str]:
    found = re.findall(rf'<a (?=[^>]*aria-label="{label})[^>]*href="\./(.*?)"', answer.text)
    return [html.unescape(one) for one in found]


def app_over(shop: Shop, path: Path) -> Any:
    """A gateway of the shop's model over another index, called x."""
    settings = make_settings(indexes={"x": path}, pictures_as_built=True)
    return create_app(Gateway(shop.client, settings, Indexes(settings.indexes), ClassBanks({})))
