"""Refusals of the server, with their HTTP status."""

from __future__ import annotations

from opsin.errors import OpsinError


class RequestError(OpsinError):
    """A refused request.

    Args:
        status: HTTP status: 400 bad body, 401 token, 403 host or origin, 404 model, 408 time, 413 size, 415 kind,
            429 queue, 431 headers.
        headers: headers of the response.
        what, where, got, expected, do: as in `OpsinError`.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        headers: dict[str, str] | None = None,
        where: object = None,
        got: object = None,
        expected: object = None,
        do: str | None = None,
    ) -> None:
        super().__init__(what, where=where, got=got, expected=expected, do=do)
        self.status, self.headers = status, headers or {}

    @classmethod
    def of(cls, status: int, error: OpsinError) -> RequestError:
        """A refusal that says what `error` says."""
        return cls(status, error.what, where=error.where, got=error.got, expected=error.expected, do=error.do)


def as_json(error: OpsinError) -> dict[str, dict[str, str]]:
    """An error as the body of a response; missing fields are omitted."""
    details = {"where": error.where, "got": error.got, "expected": error.expected, "do": error.do}
    told = {key: str(value) for key, value in details.items() if value is not None}
    return {"error": {"what": error.what} | told}
