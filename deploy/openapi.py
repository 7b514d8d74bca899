"""Description of the service as an OpenAPI 3.1 document."""

from typing import Any

from vargfacenet import __version__
from vargfacenet.deploy.server import MOST_BYTES

FIELD = "image"
MOST_IMAGES, MOST_TOP = 32, 1000  # images of a request, and people to list of each


def describe() -> dict[str, Any]:
    """Return the OpenAPI document of `vargfacenet.deploy.service`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vargfacenet",
            "version": __version__,
            "description": "Embeddings of faces, comparisons, and a search in a gallery. Images are JPEG, PNG, BMP or WebP: "
            "aligned faces of 112x112, and photographs where /health says that they are aligned. Nothing is stored. "
            f"A request holds at most {MOST_BYTES >> 20} MiB.",
        },
        "paths": {
            "/health": {"get": _operation("The model, its threshold, and the gallery", "Health", errors=(403,))},
            "/openapi.json": {
                "get": {
                    "summary": "This document",
                    "operationId": "describe",
                    "responses": {
                        "200": {"description": "OpenAPI 3.1", "content": _json({"type": "object"})},
                        "403": _error(403),
                    },
                }
            },
            "/embed": {"post": _operation("L2-normalized embeddings of images", "Embeddings", images=(1, MOST_IMAGES))},
            "/compare": {"post": _operation("The cosine of two images, and a verdict", "Comparison", images=(2, 2))},
            "/search": {
                "post": {
                    **_operation(
                        "The nearest people of the gallery for each image",
                        "Found",
                        images=(1, MOST_IMAGES),
                        errors=(400, 403, 404, 411, 413, 415, 422, 500, 503),
                    ),
                    "parameters": [
                        {
                            "name": "top",
                            "in": "query",
                            "description": "people to list of each image",
                            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_TOP, "default": 5},
                        }
                    ],
                }
            },
        },
        "components": {"schemas": _SCHEMAS},
    }


def _operation(
    summary: str,
    answer: str,
    *,
    images: "tuple[int, int] | None" = None,
    errors: tuple[int, ...] = (400, 403, 411, 413, 415, 422, 500, 503),
) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{answer}"}
    described: dict[str, Any] = {
        "summary": summary,
        "operationId": answer.lower(),
        "responses": {
            "200": {"description": summary, "content": _json(schema)},
            **{str(status): _error(status) for status in errors},
        },
    }
    if images:
        least, most = images
        binary = {"type": "string", "contentMediaType": "application/octet-stream"}
        form = {
            "type": "object",
            "required": [FIELD],
            "properties": {FIELD: {"type": "array", "items": binary, "minItems": least, "maxItems": most}},
            "additionalProperties": False,
        }
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return described


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _error(status: int) -> dict[str, Any]:
    return {"description": _ERRORS[status], "content": _json({"$ref": "#/components/schemas/Error"})}


_ERRORS = {
    400: "the form or a number is wrong",
    403: "the request comes from another site's page, or calls the server by an unknown name",
    404: "there is no gallery",
    411: "the request does not state its length",
    413: "the request is too large",
    415: "the body is not multipart/form-data",
    422: "an image cannot be used",
    500: "a fault of the server",
    503: "too many connections",
}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


_TEXT, _COSINE = {"type": "string"}, {"type": "number", "minimum": -1.0001, "maximum": 1.0001}
_MODEL = {"model": _TEXT, "fingerprint": _TEXT}
_THRESHOLD = {"type": ["number", "null"], "description": "cosine above which two faces are one identity"}
_FAR = {"type": ["number", "null"], "description": "false accept rate at which the threshold was measured"}
_SAME = {"type": ["boolean", "null"], "description": "the cosine is above the threshold; null without a threshold"}
_SCHEMAS: dict[str, Any] = {
    "Error": _object(error=_TEXT),
    "Health": _object(
        status={"const": "ok"},
        **_MODEL,
        threshold=_THRESHOLD,
        far=_FAR,
        aligns={"type": "boolean", "description": "photographs are accepted; otherwise only faces of 112x112"},
        gallery={
            "anyOf": [_object(faces={"type": "integer"}, people={"type": "integer"}), {"type": "null"}],
        },
    ),
    "Embeddings": _object(
        **_MODEL, embeddings={"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    ),
    "Comparison": _object(**_MODEL, cosine=_COSINE, same=_SAME, threshold=_THRESHOLD, far=_FAR),
    "Found": _object(
        **_MODEL,
        threshold=_THRESHOLD,
        found={"type": "array", "items": {"type": "array", "items": _object(name=_TEXT, cosine=_COSINE, same=_SAME)}},
    ),
}
