"""The page: one HTML file with its style, its program and its data in it, and the policy that lets it load nothing else."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

_LINE = "\N{LINE SEPARATOR}"
_PARAGRAPH = "\N{PARAGRAPH SEPARATOR}"


def asset(name: str) -> str:
    """A file that comes with this package."""
    return (files("bwpipe.review") / name).read_text(encoding="utf-8")


def page(data: Mapping[str, Any], images: Iterable[bytes] = (), *, live: bool = False) -> Iterable[str]:
    """The page, in pieces.

    Args:
        data: What `review.js` shows; see there.
        images: The images that the data refer to by their number, each embedded as text that is decoded when it is shown.
        live: Whether a server takes corrections.
    """
    title = escape(str(data["title"]))
    style, scripts = asset("review.css"), _scripts(live=live)
    yield _HEAD.format(title=title, policy=escape(policy(live=live), quote=True), style=style)
    yield asset("page.html").replace("{title}", title)
    yield f'<script type="application/json" id="data">{embedded(data)}</script>\n'
    for script in scripts:
        yield f"<script>{script}</script>\n"
    for number, image in enumerate(images):
        yield f'<script type="text/plain" id="i{number}">{base64.b64encode(image).decode()}</script>\n'
    yield "</body>\n</html>\n"


def embedded(data: Any) -> str:
    """JSON that can stand in a script element, whatever the texts in it are."""
    text = json.dumps(data, separators=(",", ":"))
    for char in ("<", ">", "&", _LINE, _PARAGRAPH):
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def policy(*, live: bool) -> str:
    """The content security policy: this style and these scripts, by their hashes, pictures from beside the page, no more."""
    style = _hash(asset("review.css"))
    scripts = " ".join(map(_hash, _scripts(live=live)))
    images = "img-src 'self' data: blob:" if live else "img-src 'self' data: file:; media-src 'self' file:"
    more = "connect-src 'self'; media-src 'self'" if live else "connect-src 'none'"
    return f"default-src 'none'; style-src {style}; script-src {scripts}; {images}; {more}; base-uri 'none'; form-action 'none'"


def _scripts(*, live: bool) -> Sequence[str]:
    return [asset(name) for name in (("review.js", "wheel.js", "correct.js") if live else ("review.js",))]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark light">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""
