"""Defines the errors that people see, in one tree.

RucksackError
+- UserError          (also ValueError) a mistake whose text says how to mend it: printed as one line, exit code 2
|  +- ConfigError     a configuration file or command-line value
+- BadRecord          (also ValueError) a record that cannot be read: it goes to `deadletters`, the role goes on
+- BrokerUnavailable  no broker answers, or it answered with an error that does not pass: exit code 3
+- Fenced             another process with the same name has taken over: exit code 4
"""


class RucksackError(Exception):
    """Base of all errors of the project."""

    exit_code = 1


class UserError(RucksackError, ValueError):
    """Names the thing, the value given, the value expected and the remedy."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot be used."""


class BadRecord(RucksackError, ValueError):
    """A record that cannot be decoded or breaks the contract of its topic."""


class BrokerUnavailable(RucksackError):
    """The broker does not answer, or not in a way that lets work go on."""

    exit_code = 3


class Fenced(RucksackError):
    """A newer process with the same transactional id is active: this one must stop."""

    exit_code = 4
