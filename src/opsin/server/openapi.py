"""The OpenAPI description of the server. Source: https://spec.openapis.org/oas/v3.1.0"""

from __future__ import annotations

from typing import Any

import opsin
from opsin.server.limits import Limits
from opsin.units import bytes_text

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
PREDICTION = {
    "type": "object",
    "required": ["file", "label", "score", "top", "box", "mask", "notes"],
    "properties": {
        "file": TEXT,
        "label": TEXT,
        "score": NUMBER,
        "top": {"type": "array", "items": {"type": "array", "prefixItems": [TEXT, NUMBER]}},
        "box": {"type": ["array", "null"], "items": NUMBER, "description": "x1, y1, x2, y2 in pixels of the image"},
        "mask": {"type": "null", "description": "masks are not sent; `top` gives each class's share of the pixels"},
        "notes": {"type": "array", "items": TEXT},
    },
}
SKIPPED = {"type": "object", "properties": {"file": TEXT, "reason": TEXT}}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "additionalProperties": TEXT, "required": ["what"]}},
}
BINARY = {"type": "string", "format": "binary"}
BASE64 = {"type": "string", "contentEncoding": "base64"}
JSON_BODY = {
    "type": "object",
    "properties": {
        "image": BASE64,
        "images": {
            "type": "array",
            "items": {"type": "object", "required": ["data"], "properties": {"name": TEXT, "data": BASE64}},
        },
    },
}


def description(models: tuple[str, ...], limits: Limits, *, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document of a server of these models."""
    security: dict[str, Any] = {"security": [{"token": []}]} if needs_token else {}
    components: dict[str, Any] = {"schemas": {"Prediction": PREDICTION, "Skipped": SKIPPED, "Error": ERROR}}
    if needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Opsin", "version": opsin.__version__},
        "paths": {
            "/predict": {"post": _predict(models, limits)},
            "/health": {"get": {"summary": "Liveness", "security": [], **_answer("ok", {})}},
            "/metrics": {"get": {"summary": "Metrics for Prometheus", **_answer("text", {"text/plain": {}})}},
            "/openapi.json": {"get": {"summary": "This document", **_answer("JSON", {"application/json": {}})}},
        },
        "components": components,
    } | security


def _predict(models: tuple[str, ...], limits: Limits) -> dict[str, Any]:
    form = {"type": "object", "additionalProperties": BINARY}
    bodies = {"image/*": BINARY, "application/octet-stream": BINARY, "multipart/form-data": form}
    bodies |= {"application/json": JSON_BODY}
    found = {
        "type": "object",
        "required": ["predictions", "skipped"],
        "properties": {
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
            "skipped": {"type": "array", "items": {"$ref": "#/components/schemas/Skipped"}},
        },
    }
    refusals = {
        "400": "invalid body, or no readable image",
        "401": "a token is required",
        "403": "another host or origin",
        "404": "no such model",
        "408": f"more than {limits.timeout_s:g} s",
        "413": f"more than {bytes_text(limits.max_bytes)} or {limits.max_images} images",
        "415": "unsupported content type",
        "429": f"more than {limits.max_requests} requests at once",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": "Predictions for one or several images",
        "parameters": [{"name": "model", "in": "query", "schema": {"enum": list(models), "default": models[0]}}],
        "requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in bodies.items()}},
        "responses": {"200": {"description": "predictions", "content": {"application/json": {"schema": found}}}}
        | {status: {"description": what, "content": error} for status, what in refusals.items()},
    }


def _answer(what: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"responses": {"200": {"description": what, "content": content}}}
