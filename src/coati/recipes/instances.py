"""Instance: one provider of a service, and how Curator (JSON) and Dubbo (a URL for a name) write it down.

Pure. A field of Curator's JSON that is not known here is kept out, one that is missing has its default, as Jackson does
with the classes of curator-x-discovery (ServiceInstance, UriSpec).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
"""What a payload may be."""

DYNAMIC: Final = "DYNAMIC"
"""The instance goes with its session; STATIC and PERMANENT ones stay (ServiceType)."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Where a service is to be had. `weight` is its share of the load, relative to the others; `url` is Dubbo's name.

    `registered_ms` is Unix time. `uri_spec` is a template as `{scheme}://{address}:{port}`.
    """

    service: str
    id: str
    address: str = ""
    port: int | None = None
    ssl_port: int | None = None
    payload: JSON = None
    registered_ms: int = 0
    kind: str = DYNAMIC
    uri_spec: str | None = None
    enabled: bool = True
    weight: float = 1.0
    url: str = ""

    def uri(self) -> str:
        """The URL, or what the template makes of the fields; empty if there is neither."""
        if self.url or self.uri_spec is None:
            return self.url
        known = {
            "scheme": "https" if self.ssl_port is not None else "http",
            "name": self.service,
            "id": self.id,
            "address": self.address,
            "port": "" if self.port is None else str(self.port),
            "ssl-port": "" if self.ssl_port is None else str(self.ssl_port),
            "registration-time-utc": str(self.registered_ms),
            "service-type": self.kind.lower(),
        }
        text = self.uri_spec
        for name, value in known.items():
            text = text.replace("{" + name + "}", value)
        return text


class BadInstance(ValueError):
    """What a znode holds is no instance."""


def to_curator(instance: Instance) -> bytes:
    """The JSON that JsonInstanceSerializer writes."""
    spec: JSON = None if instance.uri_spec is None else {"parts": list(_parts(instance.uri_spec))}
    fields: dict[str, JSON] = {
        "name": instance.service,
        "id": instance.id,
        "address": instance.address,
        "port": instance.port,
        "sslPort": instance.ssl_port,
        "payload": instance.payload,
        "registrationTimeUTC": instance.registered_ms,
        "serviceType": instance.kind,
        "uriSpec": spec,
        "enabled": instance.enabled,
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def from_curator(data: bytes) -> Instance:
    """Raises BadInstance. The weight is what a payload of the form {"weight": number} says."""
    try:
        found: JSON = json.loads(data)
    except ValueError as error:
        raise BadInstance(f"no JSON: {error}") from None
    if not isinstance(found, Mapping):
        raise BadInstance("no JSON object")
    fields = _Fields(found)
    payload = fields.json("payload")
    weight = payload.get("weight") if isinstance(payload, Mapping) else None
    return Instance(
        fields.text("name"),
        fields.text("id"),
        fields.text("address", ""),
        fields.number("port"),
        fields.number("sslPort"),
        payload,
        fields.number("registrationTimeUTC") or 0,
        fields.text("serviceType", DYNAMIC),
        fields.template("uriSpec"),
        enabled=fields.json("enabled") is not False,
        weight=float(weight) if isinstance(weight, int | float) else 1.0,
    )


def from_url(service: str, name: str) -> Instance:
    """An instance by the name of its znode, a URL with all but unreserved characters escaped. Raises BadInstance."""
    url = unquote(name)
    try:
        parts = urlsplit(url)
        port = parts.port
        weights = parse_qs(parts.query).get("weight", ["1"])
        weight = float(weights[0])
    except ValueError as error:
        raise BadInstance(f"{url!r} is no URL: {error}") from None
    if not parts.hostname:
        raise BadInstance(f"{url!r} names no host")
    return Instance(service, url, parts.hostname, port, weight=weight, url=url)


def url_name(url: str) -> str:
    """The name of the znode of a URL: slashes cannot be in one."""
    return quote(url, safe="")


def _parts(template: str) -> list[JSON]:
    """UriSpec.parts: plain text and names of variables in turn."""
    parts: list[JSON] = []
    rest = template
    while rest:
        text, brace, after = rest.partition("{")
        if text:
            parts.append({"value": text, "variable": False})
        if not brace:
            break
        name, closed, rest = after.partition("}")
        if not closed:
            raise BadInstance(f"{template!r} has a brace that is not closed")
        parts.append({"value": name, "variable": True})
    return parts


class _Fields:
    """The fields of a JSON object, each with the type that it must have."""

    def __init__(self, fields: Mapping[str, JSON]) -> None:
        self._fields = fields

    def json(self, name: str) -> JSON:
        return self._fields.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise BadInstance(f"{name} is no text: {value!r}")
        return value

    def number(self, name: str) -> int | None:
        value = self._fields.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise BadInstance(f"{name} is no whole number: {value!r}")

    def template(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is None:
            return None
        parts = value.get("parts") if isinstance(value, Mapping) else None
        if not isinstance(parts, Sequence) or isinstance(parts, str):
            raise BadInstance(f"{name} has no parts: {value!r}")
        text = ""
        for part in parts:
            if not isinstance(part, Mapping) or not isinstance(part.get("value"), str):
                raise BadInstance(f"{name} has a part without a value: {part!r}")
            shown = str(part["value"])
            text += "{" + shown + "}" if part.get("variable") else shown
        return text
