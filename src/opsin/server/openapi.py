"""The OpenAPI description of the server. Source: https://spec.openapis.org/oas/v3.1.0"""

from __future__ import annotations

import opsin
from opsin.server.limits import Limits
from opsin.units import bytes_text

Document = dict[str, object]
"""A JSON object."""
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
EXPLANATION = {
    "type": "object",
    "required": ["file", "method", "quantity", "value", "picture", "notes"],
    "properties": {
        "file": TEXT,
        "method": {"enum": ["grad-cam", "saliency"], "description": "saliency for a network without maps"},
        "quantity": {**TEXT, "description": "the explained number, e.g. the logit of the likeliest class"},
        "value": NUMBER,
        "picture": {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
            "description": "the image at the network's size, orange where the output depends on it",
        },
        "notes": {"type": "array", "items": TEXT},
    },
}
STATE = {
    "type": "object",
    "properties": {
        "loaded": {"type": "string", "format": "date-time"},
        "reloads": {"type": "integer"},
        "problem": {"type": ["string", "null"], "description": "why the run's new files are not served"},
    },
}
HEALTH = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {
            "enum": ["ok", "stale"],
            "description": "stale: a run's new files cannot be served; the old ones are",
        },
        "models": {"type": "object", "additionalProperties": STATE, "description": "only with the token"},
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


def description(models: tuple[str, ...], limits: Limits, *, needs_token: bool) -> Document:
    """The OpenAPI document of a server of these models."""
    security: Document = {"security": [{"token": []}]} if needs_token else {}
    schemas = {"Prediction": PREDICTION, "Explanation": EXPLANATION, "Skipped": SKIPPED, "Error": ERROR}
    components: Document = {"schemas": schemas}
    if needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    health: Document = {"application/json": {"schema": HEALTH}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Opsin", "version": opsin.__version__},
        "paths": {
            "/predict": {"post": _about_images("Predictions for", "predictions", "Prediction", models, limits)},
            "/explain": {"post": _about_images("Grad-CAM over", "explanations", "Explanation", models, limits)},
            "/health": {"get": {"summary": "Liveness", "security": [], **_answer("state", health)}},
            "/metrics": {"get": {"summary": "Metrics for Prometheus", **_answer("text", {"text/plain": {}})}},
            "/openapi.json": {"get": {"summary": "This document", **_answer("JSON", {"application/json": {}})}},
        },
        "components": components,
    } | security


def _about_images(summary: str, key: str, schema: str, models: tuple[str, ...], limits: Limits) -> Document:
    """A route that takes images, and answers with an object of `schema` for each under `key`."""
    form = {"type": "object", "additionalProperties": BINARY}
    bodies = {"image/*": BINARY, "application/octet-stream": BINARY, "multipart/form-data": form}
    bodies |= {"application/json": JSON_BODY}
    found = {
        "type": "object",
        "required": [key, "skipped"],
        "properties": {
            key: {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}},
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
        "431": f"headers of more than {bytes_text(limits.max_head_bytes)}",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": f"{summary} one or several images",
        "parameters": [{"name": "model", "in": "query", "schema": {"enum": list(models), "default": models[0]}}],
        "requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in bodies.items()}},
        "responses": {"200": {"description": key, "content": {"application/json": {"schema": found}}}}
        | {status: {"description": what, "content": error} for status, what in refusals.items()},
    }


def _answer(what: str, content: Document) -> Document:
    return {"responses": {"200": {"description": what, "content": content}}}
