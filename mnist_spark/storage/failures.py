"""Why object storage failed, in a few words, out of what obstore and delta-rs say.

Both say it in text, a tree with whole answers, addresses and, now and then, credentials in it. This
is the only module that looks into that text.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
from collections.abc import Iterator

from mnist_spark.errors import MnistSparkError

# Rust's errors, and who is asked last for credentials on machines of Amazon, Azure and Google.
_NO_CREDENTIALS = re.compile(
    r"//169\.254\.169\.254\b|//metadata\.google\.internal\b"
    r"|(?:loading|signing) credential|credentials? provider"
    r"|from session.get_credentials|(?:config profile|Invalid Access Key|performing token request)"
)
_STATUS = re.compile(r"status code: ([1-5]\d\d)\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_OTHER = {
    re.compile(r"kind: Timeout|TimedOut|operation timed out"): "no answer in time",
    re.compile(r"redirect without LOCATION"): "the bucket is in another region than AWS_REGION",
    re.compile(
        r"[Hh]eader missing|non-partial response|[Ii]nvalid (?:list|get|put|multipart) response"
        r"|Got invalid|error decoding response|ContentRange"
    ): "not an answer of cloud storage",
}
_TLS = re.compile(r"invalid peer certificate: (\w+)|(CertificateUnknown|HandshakeFailure)")
_SYSTEM = re.compile(r"\bOs \{\s*code: (\d+)")
_LOOKUP = re.compile(r"failed to lookup address information: ([^\"\n]+)")


class ObjectError(OSError):
    """An object can't be read, written or listed; the message is the reason, without secrets.

    Attributes:
        transient: whether another try may do better.
        missing: there is no such object, bucket or container.
        changed: the object is another than the one that was asked for.
        conflict: HTTP 409 or 412. A put whose first answer was lost may get it, though it was done.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        missing: bool = False,
        changed: bool = False,
        conflict: bool = False,
    ) -> None:
        super().__init__(reason)
        self.transient = transient
        self.missing = missing
        self.changed = changed
        self.conflict = conflict


@contextlib.contextmanager
def object_errors() -> Iterator[None]:
    """Makes an ObjectError of what obstore, or a provider of credentials, raises in the block."""
    try:
        yield
    except (MnistSparkError, ObjectError):
        raise
    except Exception as error:  # noqa: BLE001 - of many classes, by many causes
        # Not ``from error``: a traceback would print the text, and what it has in it.
        raise _object_error(error) from None


def _object_error(error: BaseException) -> ObjectError:
    if isinstance(error, TimeoutError):
        return ObjectError("no answer in time", transient=True)
    text = str(error)
    reason = _known_reason(text)
    status = _status(text)
    if status == 412:
        return ObjectError(
            "the file changed meanwhile", transient=True, changed=True, conflict=True
        )
    missing = isinstance(error, FileNotFoundError) or status == 404
    if reason is None:
        reason = "not found" if missing else _class_reason(error)
    lasting = missing or _NO_CREDENTIALS.search(text) or _TLS.search(text)
    again = status in (408, 429) or status >= 500 if status else not lasting
    return ObjectError(reason, transient=again, missing=missing, conflict=status == 409)


def delta_reason(error: BaseException) -> str:
    """What delta-rs says, in one line; of other errors, the first line."""
    if isinstance(error, MnistSparkError):
        return str(error)
    text = re.sub(r"\s*↳\s*", ": ", re.sub(r"\x1b\[\d*m", "", str(error))).strip()
    if (reason := _known_reason(text)) is not None:
        return reason
    # The query of a URL of cloud storage is a signature.
    text = re.sub(r"(\w+://[^\s?]*)\?\S*", r"\1", text)
    return next((line.strip() for line in text.splitlines() if line.strip()), repr(error))


def _known_reason(text: str) -> str | None:
    """A reason that the text has, or None."""
    if _NO_CREDENTIALS.search(text):
        return "no credentials, or not valid ones"
    if status := _status(text):
        code = _CODE.search(text)
        phrase = http.client.responses.get(status, "")
        return f"HTTP {status} {phrase}".rstrip() + (f" ({code[1]})" if code else "")
    if tls := _TLS.search(text):
        return f"TLS: {tls[1] or tls[2]}"
    if lookup := _LOOKUP.search(text):
        return lookup[1].strip()
    if system := _SYSTEM.search(text):
        return os.strerror(int(system[1]))
    return next((reason for known, reason in _OTHER.items() if known.search(text)), None)


def _status(text: str) -> int:
    """The HTTP status of the answer, 0 if there was none."""
    found = _STATUS.search(text)
    return int(found[1]) if found else 0


def _class_reason(error: BaseException) -> str:
    """For what has no known text: never the text itself."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if type(error).__name__ == "UnauthenticatedError":
        return "no credentials, or not valid ones"
    if "HTTP error" in str(error):
        return "no connection"
    return type(error).__name__
