"""Instances in Curator's JSON and in Dubbo's URLs."""

from __future__ import annotations

import json

import pytest

from coati.recipes.instances import BadInstance, Instance, from_curator, from_url, to_curator, url_name

# The example of curator-x-discovery's documentation, with a uriSpec as UriSpec writes it.
CURATOR = b"""{"name":"test","id":"6a2b6f1f","address":"10.0.0.7","port":8080,"sslPort":null,
"payload":{"@class":"com.example.Details","weight":2},"registrationTimeUTC":1325129459728,"serviceType":"DYNAMIC",
"uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},
{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true}]},
"enabled":false,"unknown":1}"""


def test_curators_json_is_read() -> None:
    assert from_curator(CURATOR) == Instance(
        "test",
        "6a2b6f1f",
        "10.0.0.7",
        8080,
        payload={"@class": "com.example.Details", "weight": 2},
        registered_ms=1325129459728,
        uri_spec="{scheme}://{address}:{port}",
        enabled=False,
        weight=2.0,
    )
    assert from_curator(CURATOR).uri() == "http://10.0.0.7:8080"


def test_curators_json_is_written_with_all_its_fields() -> None:
    known = json.loads(CURATOR)
    del known["unknown"]
    assert json.loads(to_curator(from_curator(CURATOR))) == known
    assert json.loads(to_curator(Instance("s", "i")))["uriSpec"] is None


def test_what_is_missing_has_its_default() -> None:
    assert from_curator(b'{"name":"n","id":"i"}') == Instance("n", "i")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"[]", b"{}", b'{"name":1,"id":"i"}', b'{"name":"n","id":"i","port":"80"}',
        b'{"name":"n","id":"i","port":true}', b'{"name":"n","id":"i","uriSpec":7}',
        b'{"name":"n","id":"i","uriSpec":{"parts":"x"}}', b'{"name":"n","id":"i","uriSpec":{"parts":[{}]}}',
    ],
)  # fmt: skip
def test_what_is_no_instance_is_refused(data: bytes) -> None:
    with pytest.raises(BadInstance):
        from_curator(data)


def test_a_template_that_is_not_closed_is_refused() -> None:
    with pytest.raises(BadInstance, match="not closed"):
        to_curator(Instance("s", "i", uri_spec="http://{address"))


def test_a_url_is_a_name_and_back() -> None:
    url = "dubbo://10.20.153.10:20880/com.foo.BarService?version=1.0.0&weight=5"
    name = url_name(url)
    assert "/" not in name
    instance = from_url("com.foo.BarService", name)
    assert (instance.address, instance.port, instance.weight, instance.uri()) == ("10.20.153.10", 20880, 5.0, url)


@pytest.mark.parametrize("name", ["nothing", "http%3A%2F%2Fhost%3Aport", "http%3A%2F%2Fh%3Fweight%3Dx", "%2F%2F"])
def test_a_name_that_is_no_url_is_refused(name: str) -> None:
    with pytest.raises(BadInstance):
        from_url("s", name)


def test_an_instance_without_url_or_template_has_no_uri() -> None:
    assert Instance("s", "i", "h", 1).uri() == ""
