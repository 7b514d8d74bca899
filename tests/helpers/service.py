"""A server in a thread, and requests to it."""

import contextlib
import http.client
import json
import threading
import uuid

from vargfacenet.deploy.openapi import describe
from vargfacenet.deploy.server import Address
from vargfacenet.deploy.service import make_service


@contextlib.contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def running_service(served, **options):
    return running(make_service(served, Address(**{"port": 0, **options})))


def send(address, method, path, body=None, **headers):
    """Status, headers and body of an answer."""
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=600)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def ask(address, method, path, body=None, **headers):
    """Status, headers and JSON of an answer, which must conform to the document where the path is in it."""
    status, received, content = send(address, method, path, body, **headers)
    answer = json.loads(content)
    document = describe()
    operation = document["paths"].get(path.partition("?")[0], {}).get(method.lower())
    if operation:
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        assert_conforms(answer, schema, document)
    return status, received, answer


def assert_conforms(value, schema, document):
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        return assert_conforms(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return assert_conforms(value, schema["anyOf"][value is None], document)
    assert set(schema) <= {
        *(
            "type",
            "const",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "description",
            "minimum",
            "maximum",
        )
    }
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
    kinds["null"] = type(None)
    wanted = schema.get("type", [])
    wanted = wanted if isinstance(wanted, list) else [wanted]
    assert not wanted or any(isinstance(value, kinds[kind]) for kind in wanted), (value, schema)
    assert value == schema.get("const", value)
    if "minimum" in schema:
        assert schema["minimum"] <= value <= schema["maximum"]
    if "properties" in schema:
        assert set(schema["required"]) == set(value) == set(schema["properties"])
        for name, part in schema["properties"].items():
            assert_conforms(value[name], part, document)
    for one in value if "items" in schema else ():
        assert_conforms(one, schema["items"], document)
    return None


def form(*parts, boundary=None):
    """Content type and body of a form: pairs of name and content."""
    boundary = boundary or uuid.uuid4().hex
    lines = []
    for name, content in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n'
        lines.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join(lines) + f"--{boundary}--\r\n".encode()
