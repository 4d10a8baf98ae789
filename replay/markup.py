"""Turns text into safe HTML. What a model, a prompt or an error wrote is hostile and passes `safe` before it reaches the page.

Besides markup, `safe` disarms what would mislead a reader: control characters and characters that change the direction
of text are shown by their number.
"""

import html
import unicodedata
from collections.abc import Iterable, Sequence

_MOST_CHARACTERS = 4000


def safe(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Untrusted text as HTML."""
    shown = "".join(map(_visible, text[:most]))
    return shown + (f' <span class="dim">... {len(text) - most:,} more characters</span>' if len(text) > most else "")


def _visible(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t":
        return f'<span class="control">U+{ord(character):04X}</span>'
    return html.escape(character)


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], css: str = "", most: int = 50, empty: str = "no data yet"
) -> str:
    """A table of cells that are HTML already; without rows, the word for that."""
    lines = list(rows)
    if not lines:
        return f'<p class="empty">{html.escape(empty)}</p>'
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in lines[:most])
    more = f'<p class="dim">and {len(lines) - most:,} more</p>' if len(lines) > most else ""
    return f'<div class="scroll"><table class="{css}"><tr>{head}</tr>{body}</table></div>{more}'
