"""The description of a model and its requests for a handler, and the headers of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Context:
    """One for each loaded model. The requests in it are those of the batch that is being answered."""

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None,
        batch_size: int,
        gpu: int | None,
        mms_version: str,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.request_ids: dict[int, str] | None = None
        self.request_processor: list[RequestProcessor] | None = None
        self.metrics: Any = None
        self._system_properties = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": mms_version,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it changes with every batch

    @property
    def system_properties(self) -> dict[str, Any]:
        """``model_dir``, ``gpu_id`` (None on a CPU), ``batch_size``, ``server_name``, ``server_version``."""
        return self._system_properties

    def get_request_id(self, idx: int = 0) -> str | None:
        """Return the id of request ``idx`` of the batch; None while the model loads."""
        return (self.request_ids or {}).get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        """Return a header of request ``idx``, or None."""
        return self._of(idx).get_request_property(key)

    def get_all_request_header(self, idx: int) -> Mapping[str, Any]:
        """All headers of request ``idx``, and for each of its fields ``{"content-type": …}`` under the field's name."""
        return self._of(idx).get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of answer ``idx``."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the content type that was set for response ``idx``."""
        return self.get_response_headers(idx).get("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of answer ``idx``."""
        self._of(idx).add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """Return the headers that were set for response ``idx``."""
        return self._of(idx).get_response_headers()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of answer ``idx``; its body stays what the handler returns. Nothing happens during loading."""
        if self.request_processor is not None:
            self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the status of every answer of the batch."""
        for processor in self.request_processor or ():
            processor.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """Return the status code and the phrase of response ``idx``."""
        return self._of(idx).get_response_status_code(), self._of(idx).get_response_status_phrase()

    def _of(self, idx: int) -> RequestProcessor:
        if self.request_processor is None:
            raise RuntimeError("There is no request: the model is being loaded")
        return self.request_processor[idx]


class RequestProcessor:
    """One request of a batch: its headers, and the status and headers of its answer."""

    def __init__(self, request_header: Mapping[str, Any]) -> None:
        self._request_header = request_header
        self._response_header: dict[str, str] = {}
        self._status_code = 200
        self._reason_phrase: str | None = None

    def get_request_property(self, key: str) -> Any:
        """Return a header of the request, or None."""
        return self._request_header.get(key)

    def get_request_properties(self) -> Mapping[str, Any]:
        """All headers of the request."""
        return self._request_header

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the answer."""
        self._status_code = code
        self._reason_phrase = reason_phrase

    def get_response_status_code(self) -> int:
        """Return the status code of the response; 200 if none was set."""
        return self._status_code

    def get_response_status_phrase(self) -> str | None:
        """Return the phrase beside the status code."""
        return self._reason_phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the answer."""
        self._response_header[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """All headers that were set for the answer."""
        return self._response_header

    def get_response_header(self, key: str) -> str | None:
        """Return a header that was set for the response."""
        return self._response_header.get(key)
