"""Errors of condvest: each says the value, the rule and the remedy.

A caller that must decide what to do next looks at the class, a person reads the message. Exit codes: `ConfigError` ends a
command with 2, every other `CondvestError` with 1. The command of the Batch image ends with 75 where another attempt may succeed.
"""


class CondvestError(Exception):
    """Base of every error that condvest raises on purpose. Its text is one line for a person."""


class ConfigError(CondvestError):
    """A setting, option or argument is wrong. Stops at the start; nothing was changed."""


class NotWritable(ConfigError):
    """Nothing may be written there by this user, or on this file system. Who only reads may go on without."""


class TransientError(CondvestError):
    """The outside failed in a way that may pass (time-out, 429, 5xx, broken body). May be tried again."""


class TimeOver(CondvestError):
    """The time that was given for asking is over before the answer came. Says nothing of who was asked; go on in a next call."""


class DataError(CondvestError):
    """Data break a rule: a corrupt file, an answer of the wrong shape. What is sound goes on; this is reported."""


class NotEntitled(CondvestError):
    """The provider's plan does not include what was asked. Final until the plan changes."""


class NotYetAvailable(CondvestError):
    """The provider does not hand out this session yet. It stays pending."""


class ObjectNotFound(CondvestError):
    """No object lies under the key."""


class CommitConflict(CondvestError):
    """Another writer changed the object since it was read. The caller reads again and plans again."""


class CommitUnknown(CondvestError):
    """A write's answer never arrived and reading back could not settle it. Nothing may be assumed or deleted."""


class WorkLeft(CondvestError):
    """A job did part of its work; the message names what is left. The next run does just that."""
