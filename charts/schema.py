"""The chart's `values.schema.json`: every level refuses names that are not there.

`config` is read off the program's settings, so a setting that the program lacks is refused by the chart, too. Objects
that Kubernetes defines (affinity, volumes, rules of a NetworkPolicy) are left to Kubernetes.
"""

from __future__ import annotations

from typing import Any

from stream.config import Settings

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
# As Kubernetes defines it.
NATIVE: Schema = {"type": "object"}
NATIVES: Schema = {"type": "array", "items": NATIVE}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
PORTS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}}
QUANTITY: Schema = {"type": ["string", "number"]}
# librdkafka options look like this; it is the name of a file, too.
OPTION_PATTERN = r"^[a-z0-9.]+$"
DURATION: Schema = {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$"}


def values_schema() -> Schema:
    """The whole schema, as draft 7 (what every Helm 3 reads)."""
    settings = Settings.model_json_schema()
    definitions = {name: _setting(body) for name, body in settings.pop("$defs").items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart dejaview",
        "$defs": definitions,
        **_object(
            # A parent chart gives its own to every chart in it.
            {"global": NATIVE, "fullnameOverride": {"type": "string", "maxLength": 40}, "commonLabels": TEXTS},
            image=_image(pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}, pullSecrets=NATIVES),
            config=_setting(settings) | {"required": ["drain_s", "kafka", "topics", "index", "model"]},
            secrets=_secrets(),
            encode=_stage(
                partitions=_integer(0),
                gpu=_object({"count": _integer(0), "resource": STRING}),
                runtimeClassName=STRING,
            ),
            decide=_stage(),
            index=_stage(),
            keda=_object(
                {"pollingIntervalS": _integer(1), "scaleDownAfterS": _integer(0)},
                kafkaVersion=STRING,
                authenticationRef=STRING,
            ),
            topicsJob=_pod({"enabled": BOOLEAN, "deadlineS": _integer(1)}),
            serviceAccount=_object({"create": BOOLEAN, "name": STRING, "annotations": TEXTS}),
            security=_object(
                {name: {"type": ["integer", "null"], "minimum": 1} for name in ("runAsUser", "runAsGroup")},
                tmpSizeLimit=STRING,
            ),
            networkPolicy=_network_policy(),
            metrics=_metrics(),
        ),
    }


def _object(properties: Schema, **more: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": {**properties, **more}}


def _integer(minimum: int) -> Schema:
    return {"type": "integer", "minimum": minimum}


def _setting(body: Schema) -> Schema:
    """A part of the program's schema without what only documents it."""
    kept = {key: value for key, value in body.items() if key not in {"title", "default", "format", "writeOnly"}}
    if "$ref" in kept:
        # Draft 7 reads nothing beside a reference.
        return {"$ref": kept["$ref"]}
    for key in ("properties", "$defs"):
        if key in kept:
            kept[key] = {name: _setting(value) for name, value in kept[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _setting(kept[key])
    if "anyOf" in kept:
        kept["anyOf"] = [_setting(choice) for choice in kept["anyOf"]]
    return kept


def _secret_key() -> Schema:
    """`{}`, or both."""
    both = {"name": ["key"], "key": ["name"]}
    return _object({name: {"type": "string", "minLength": 1} for name in both}) | {"dependencies": both}


def _kafka_options() -> Schema:
    return _object({}) | {"patternProperties": {OPTION_PATTERN: _secret_key() | {"required": ["name", "key"]}}}


def _secrets() -> Schema:
    secret = _secret_key()
    return _object(
        {
            "kafka": _object({"options": _kafka_options(), "ca": secret}),
            "milvus": _object({"token": secret, "ca": secret}),
            "s3": _object({"accessKeyId": secret, "secretAccessKey": secret}),
        }
    )


def _image(**more: Schema) -> Schema:
    digest = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
    return _object({"repository": {"type": "string", "minLength": 1}, "tag": STRING, "digest": digest}, **more)


def _pod(properties: Schema) -> Schema:
    """What stages and the Job have in common."""
    amounts = {"type": "object", "additionalProperties": QUANTITY}
    variable = _object({"name": {"type": "string", "minLength": 1}, "value": STRING, "valueFrom": NATIVE})
    toleration = _object(
        {
            "key": STRING,
            "operator": {"enum": ["Exists", "Equal"]},
            "value": STRING,
            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": _integer(0),
        }
    )
    return _object(
        properties,
        image=_image(),
        resources=_object({"requests": amounts, "limits": amounts}),
        kafka=_object({"username": STRING, "options": _kafka_options()}),
        env={"type": "array", "items": variable | {"required": ["name"]}},
        nodeSelector=TEXTS,
        tolerations={"type": "array", "items": toleration},
        podLabels=TEXTS,
        podAnnotations=TEXTS,
        extraVolumes=NATIVES,
        extraVolumeMounts=NATIVES,
    )


def _stage(**more: Schema) -> Schema:
    bounds = {"enabled": BOOLEAN, "minReplicas": _integer(1), "maxReplicas": _integer(0)}
    return _pod(
        {
            "replicas": _integer(0),
            "affinity": _object(dict.fromkeys(("nodeAffinity", "podAffinity", "podAntiAffinity"), NATIVE)),
            "topologySpread": NATIVES,
            "priorityClassName": STRING,
            "hpa": _object(bounds, targetCPUPercent=_integer(1)),
            "keda": _object(bounds, lagThreshold=_integer(1)),
            "pdb": _object({"enabled": BOOLEAN, "maxUnavailable": _integer(1)}),
            **more,
        }
    )


def _network_policy() -> Schema:
    rule = _object({"to": NATIVES, "ports": PORTS})
    egress = _object(dict.fromkeys(("dns", "kafka", "milvus", "store"), rule), extra=NATIVES)
    return _object({"enabled": BOOLEAN, "ingressFrom": NATIVES, "egress": egress})


def _metrics() -> Schema:
    labelled = {"enabled": BOOLEAN, "labels": TEXTS}
    return _object(
        {
            "serviceMonitor": _object(labelled, interval=DURATION, scrapeTimeout=DURATION),
            "rules": _object(labelled),
            "dashboards": _object(labelled, annotations=TEXTS),
        }
    )
