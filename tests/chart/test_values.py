"""Every value is documented, has a schema, and a name that is not there is refused at every level."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from charts.generate import CHART, documented, readme, schema_text
from charts.schema import values_schema
from ops.cli.fields import setting_fields
from tests.support.helm import EXAMPLES, example_file, refusal

TEXT = (CHART / "values.yaml").read_text()
VALUES: dict[str, Any] = yaml.safe_load(TEXT)
SCHEMA = values_schema()
# Where the chart's default is not the program's: a pod reaches no server on its own loopback, and a cluster has three.
OWN_DEFAULTS = {"kafka.bootstrap_servers", "index.uri", "topics.replication_factor"}


def problems(values: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def closed_levels(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of mappings with fixed names, and of the entries of tables of such mappings."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if schema.get("properties"):
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from closed_levels(inner, (*path, name))
    tables = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for entry in tables:
        if isinstance(entry, dict):
            yield from closed_levels(entry, (*path, "any"))


LEVELS = list(closed_levels(SCHEMA))


def test_what_is_generated_is_up_to_date() -> None:
    """README's table and values.schema.json are what values.yaml and the settings say.

    Mend it with `python -m charts.generate`. Breaks, each tried: a default in values.yaml changed; a setting renamed.
    """
    page = (CHART / "README.md").read_text()
    assert readme(page, list(documented(TEXT))) == page
    assert (CHART / "values.schema.json").read_text() == schema_text()


def test_every_value_has_a_comment() -> None:
    """Break, tried: a comment removed."""
    values = list(documented(TEXT))
    assert len(values) > 100
    assert [value.name for value in values if not value.meaning] == []


def test_the_schema_names_what_the_values_name() -> None:
    """A value without a schema cannot be given, one of the schema that is not in values.yaml is not documented.

    `config` may have any setting, its documents are the main README's. Break, tried: one left out of values.yaml.
    """
    given = {value.name for value in documented(TEXT) if not value.name.startswith("config.")}
    assert set(named(SCHEMA, given)) - {"global"} == given


def named(schema: dict[str, Any], given: set[str], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Values in the schema: what values.yaml gives, or what has no names in it."""
    name = ".".join(path)
    if name in given or not schema.get("properties"):
        yield name
        return
    for part, inner in schema["properties"].items():
        if (*path, part) != ("config",):
            yield from named(inner, given, (*path, part))


def test_the_defaults_and_examples_are_allowed() -> None:
    assert problems(VALUES) == []
    for name in EXAMPLES:
        found = problems(yaml.safe_load(example_file(name).read_text()))
        # What an example leaves out comes from the defaults.
        assert [problem for problem in found if "is a required property" not in problem] == [], name


@pytest.mark.parametrize("path", LEVELS, ids=lambda path: ".".join(path) or "top")
def test_an_unknown_name_is_refused_at_every_level(path: tuple[str, ...]) -> None:
    """Break, tried: `additionalProperties` left out in `_object`."""
    values = copy.deepcopy(VALUES)
    level: dict[str, Any] = values
    for name in path:
        level[name] = copy.deepcopy(level.get(name)) if isinstance(level.get(name), dict) else {}
        level = level[name]
    level["nonsense"] = 1
    assert any("nonsense" in problem for problem in deep(values)), path


def deep(values: dict[str, Any]) -> list[str]:
    """All messages, those inside of alternatives too."""
    found, waiting = [], list(jsonschema.Draft7Validator(SCHEMA).iter_errors(values))
    while waiting:
        error = waiting.pop()
        found.append(error.message)
        waiting += error.context or []
    return found


def test_every_level_was_looked_at() -> None:
    """The levels are found in the schema: the test above must not lose them. Break, tried: no `$ref` followed."""
    assert {
        (),
        ("encode", "keda"),
        ("config",),
        ("config", "kafka"),
        ("config", "tenants", "thresholds", "any"),
    } <= set(LEVELS)
    assert len(LEVELS) > 60


@pytest.mark.parametrize(
    ("values", "place", "name"),
    [
        ({"encoder": {}}, "", "encoder"),
        ({"encode": {"replica": 3}}, "/encode", "replica"),
        ({"config": {"kafka": {"bootstrap_server": "k:9092"}}}, "/config/kafka", "bootstrap_server"),
        ({"networkPolicy": {"egress": {"mivlus": {}}}}, "/networkPolicy/egress", "mivlus"),
    ],
)
def test_helm_names_what_it_refuses(values: dict[str, Any], place: str, name: str) -> None:
    """Not only the schema: Helm uses it, and its message has the place and the name."""
    said = refusal(values)
    assert f"at '{place}'" in said
    assert f"additional properties '{name}' not allowed" in said


def test_repeated_defaults_are_the_programs() -> None:
    """values.yaml repeats some settings because the chart needs them. Break, tried: drain_s 25 in values.yaml."""
    for name, given in flat(VALUES["config"]):
        if name not in OWN_DEFAULTS:
            assert setting_fields()[name].default == given, name


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if f"{prefix}{name}" in setting_fields():
            yield f"{prefix}{name}", value
        else:
            yield from flat(value, f"{prefix}{name}.")


def test_the_schema_is_what_old_helm_reads() -> None:
    """Draft 7, and no keyword beside a `$ref`, which that draft would not see."""
    text = json.loads(schema_text())
    jsonschema.Draft7Validator.check_schema(text)
    assert text["$schema"].startswith("http://json-schema.org/draft-07/")
    for body in text["$defs"].values():
        for inner in body.get("properties", {}).values():
            assert "$ref" not in inner or set(inner) == {"$ref"}
