"""Splits a formula of LaTeX into tokens, with a place among them."""

import re

_TOKEN = re.compile(r"\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|\\.|'+|.)", re.ASCII)


class Unknown(ValueError):
    """The text is beyond this grammar."""


class TooLarge(ValueError):
    """An expression that would take unbounded time or memory; never parsed."""


class Tokens:
    """The tokens of a formula, read from left to right."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = [*_TOKEN.findall(text.strip()), ""]
        self.place = 0

    @property
    def token(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.place]

    def ahead(self, by: int = 1) -> str:
        """A later token, without taking one."""
        return self.tokens[min(self.place + by, len(self.tokens) - 1)]

    def take(self) -> str:
        """The next token, and go on to the one behind it."""
        token = self.token
        self.place += bool(token)
        return token

    def took(self, *tokens: str) -> bool:
        """Whether the next token is one of these; then it is taken."""
        return self.token in tokens and bool(self.take())

    def expect(self, token: str) -> None:
        """Take a token that must be this one; Unknown if it is another."""
        if self.take() != token:
            raise Unknown(token)

    def argument_text(self) -> str:
        """The tokens of an argument, joined."""
        if self.token != "{":
            return self.take()
        start, depth = self.place + 1, 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(token + " " * token.startswith("\\") for token in self.tokens[start : self.place - 1])
            if not token:
                raise Unknown("{")
