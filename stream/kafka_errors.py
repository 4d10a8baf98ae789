"""Turns the errors of kafka-python into those that people see. Used by `stream.kafka` alone.

Invariant: a broker that refuses a login or a right gives one line that says so, and is not asked again and again.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from kafka.errors import (
    AuthorizationError,
    InvalidProducerEpochError,
    KafkaError,
    ProducerFencedError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from stream.errors import BrokerUnavailable, Fenced, UserError

LONGEST = 300
"""Characters of an error that people see."""
_BROKER_SAYS = re.compile(r"error_message='([^']+)'")


@contextmanager
def answering() -> Iterator[None]:
    """Turn an error of Kafka into ours: the user's mistake where it is one, else a broker that does not answer."""
    try:
        yield
    except KafkaError as error:
        raise refused(error) or BrokerUnavailable(in_one_line(error)) from error


@contextmanager
def allowed() -> Iterator[None]:
    """Turn only a refusal into the user's mistake; other errors of Kafka pass."""
    try:
        yield
    except KafkaError as error:
        told = refused(error)
        if told is None:
            raise
        raise told from error


def in_one_line(error: BaseException) -> str:
    """What the broker says of a fault, without the whole request and response, which kafka-python puts beside it."""
    if said := _BROKER_SAYS.search(str(error)):
        return f"the broker answers {type(error).__name__}: {said[1]}"
    return f"the broker does not answer: {shorten(str(error), LONGEST, placeholder=' ...')}"


def refused(error: BaseException) -> UserError | None:
    """What to tell of a broker that knows, but does not let in, whoever asks; None for any other error."""
    if isinstance(error, SaslAuthenticationFailedError | UnsupportedSaslMechanismError):
        reason = error.args[0] if error.args else error
        return UserError(f"the broker refuses the login ({reason}); correct sasl_* in broker.settings")
    if isinstance(error, AuthorizationError):
        what = error.args[0] if error.args else ""
        names = ", ".join(sorted(map(str, what))) if isinstance(what, set | frozenset | list | tuple) else str(what)
        return UserError(
            f"the broker does not allow this user what its role needs: {type(error).__name__} {names}".rstrip()
            + "; `rucksack broker acls RUN` prints the commands that allow it"
        )
    return None


@contextmanager
def fencing() -> Iterator[None]:
    """Turn the error of a writer that was replaced into ours."""
    try:
        yield
    except (ProducerFencedError, InvalidProducerEpochError) as error:
        raise Fenced(f"a newer writer of the same name is active: {error}") from error


class Reasons(logging.Handler):
    """Why connections failed while inside, newest last: a client that cannot bootstrap (kafka-python 3.0.12) says only that
    time is over, and the rest to its log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self._logger = logging.getLogger("kafka.net")
        self._before = self._logger.propagate, self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exceptions of a log line."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.errors += [argument for argument in arguments if isinstance(argument, BaseException)]

    def __enter__(self) -> "Reasons":
        self._logger.addHandler(self)
        self._logger.propagate = False
        self._logger.setLevel(logging.WARNING)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._before[0]
        self._logger.setLevel(self._before[1])

    def refusal(self) -> UserError | None:
        """What the broker refused, if it did."""
        return next((told for error in self.errors if (told := refused(error))), None)
