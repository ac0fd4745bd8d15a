"""Why storage failed, in a few words, out of texts that obstore and delta-rs have given."""

from __future__ import annotations

import errno

import pytest

from mnist_spark.errors import TableError
from mnist_spark.storage.failures import ObjectError, delta_reason, object_errors


class UnauthenticatedError(Exception):
    """As obstore's is called."""


def facts(error: Exception) -> tuple[str, set[str]]:
    """Reason and what is true of the ObjectError that becomes of an error."""
    with pytest.raises(ObjectError) as caught, object_errors():
        raise error
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    flags = ("transient", "missing", "changed", "conflict")
    return str(caught.value), {name for name in flags if getattr(caught.value, name)}


def answer(status: int, code: str = "") -> Exception:
    body = f"<Error><Code>{code}</Code><Key>SECRET</Key></Error>" if code else ""
    text = f"Server returned non-2xx status code: {status}: {body} at https://h/x?sig=SECRET"
    return Exception(text)


@pytest.mark.parametrize(
    ("error", "reason", "flags"),
    [
        (answer(500), "HTTP 500 Internal Server Error", {"transient"}),
        (answer(503, "SlowDown"), "HTTP 503 Service Unavailable (SlowDown)", {"transient"}),
        (answer(408), "HTTP 408 Request Timeout", {"transient"}),
        (answer(429), "HTTP 429 Too Many Requests", {"transient"}),
        (answer(400), "HTTP 400 Bad Request", set()),
        (answer(403, "AccessDenied"), "HTTP 403 Forbidden (AccessDenied)", set()),
        (answer(404, "NoSuchKey"), "HTTP 404 Not Found (NoSuchKey)", {"missing"}),
        (answer(409), "HTTP 409 Conflict", {"conflict"}),
        (answer(412), "the file changed meanwhile", {"transient", "changed", "conflict"}),
        (answer(499), "HTTP 499", set()),
        (answer(501), "HTTP 501 Not Implemented", {"transient"}),
        (FileNotFoundError("Object at SECRET not found"), "not found", {"missing"}),
        (TimeoutError("SECRET"), "no answer in time", {"transient"}),
        (Exception("kind: Timeout, SECRET"), "no answer in time", {"transient"}),
        (Exception("operation timed out"), "no answer in time", {"transient"}),
        (Exception("signing credential SECRET"), "no credentials, or not valid ones", set()),
        (
            Exception("error at http://169.254.169.254/latest/SECRET"),
            "no credentials, or not valid ones",
            set(),
        ),
        (
            Exception("redirect without LOCATION SECRET"),
            "the bucket is in another region than AWS_REGION",
            {"transient"},
        ),
        (
            Exception("Header missing SECRET"),
            "not an answer of cloud storage",
            {"transient"},
        ),
        (Exception("invalid peer certificate: UnknownIssuer"), "TLS: UnknownIssuer", set()),
        (Exception("alert: HandshakeFailure"), "TLS: HandshakeFailure", set()),
        (
            Exception('"failed to lookup address information: Name unknown" SECRET'),
            "Name unknown",
            {"transient"},
        ),
        (
            Exception("Os { code: 111, kind: SECRET }"),
            "Connection refused",
            {"transient"},
        ),
        (OSError(errno.ENOSPC, "SECRET"), "No space left on device", {"transient"}),
        (UnauthenticatedError("SECRET"), "no credentials, or not valid ones", {"transient"}),
        (Exception("HTTP error SECRET"), "no connection", {"transient"}),
        (ZeroDivisionError("SECRET"), "ZeroDivisionError", {"transient"}),
        (OSError("SECRET"), "OSError", {"transient"}),
    ],
)
def test_reason_and_what_to_do(error, reason, flags):
    assert facts(error) == (reason, flags)


@pytest.mark.parametrize("error", [ObjectError("why", missing=True), TableError("why")])
def test_our_own_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as caught, object_errors():
        raise error
    assert caught.value is error


def test_an_error_is_of_no_kind_unless_it_is_said():
    error = ObjectError("why")
    assert not any((error.transient, error.missing, error.changed, error.conflict))


def test_no_error():
    with object_errors():
        pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TableError("what", file="t"), "what (file t)"),
        (
            Exception("Generic\x1b[31m error\x1b[0m\n  ↳ inner\n↳ more"),
            "Generic error: inner: more",
        ),
        (Exception("\n\n  second line \n third"), "second line"),
        (answer(403, "AccessDenied"), "HTTP 403 Forbidden (AccessDenied)"),
        (Exception("cannot get s3://b/x?sig=SECRET now"), "cannot get s3://b/x now"),
        (Exception("see az://b/x for y?z"), "see az://b/x for y?z"),
        (Exception("x" * 500), "x" * 500),
        (ValueError(""), "ValueError('')"),
        (Exception("  \n "), "Exception('  \\n ')"),
    ],
)
def test_what_delta_rs_says_in_one_line(error, reason):
    assert delta_reason(error) == reason
