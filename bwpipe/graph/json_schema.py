"""The JSON Schema of graph files, for editors."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bwpipe.core import plugins
from bwpipe.core.field_docs import describe
from bwpipe.core.stage import Source, stages
from bwpipe.graph.graph import Entry, Settings

_REF = "#/$defs/{model}"


def schema() -> dict[str, Any]:
    """Generate the JSON Schema (2020-12) of a graph file, with the options of every built-in and installed stage.

    It rejects what a schema can: unknown keys, stages and options, invalid values, a graph whose source is not its first
    stage. In a file that names `plugins` it accepts unknown stages, since these may be in the file's own folders.

    Raises:
        PluginError: An installed plug-in can't be imported.
    """
    plugins.load()
    classes = {name: stages[name] for name in stages}
    models: list[type[BaseModel]] = [*classes.values(), Entry, Settings]
    for model in models:
        describe(model)
    refs, options = models_json_schema([(cls, "validation") for cls in classes.values()], ref_template=_REF)
    defs: dict[str, Any] = options.get("$defs", {})
    entry = Entry.model_json_schema(by_alias=True)
    # Any name, of which editors complete those that are known; `else` below refuses the others if there are no plug-ins.
    entry["properties"]["use"]["anyOf"] = [{"$ref": "#/$defs/stage"}, {}]
    entry["allOf"] = []
    names: dict[str, str] = {}
    for name, cls in classes.items():
        ref = refs[cls, "validation"]
        own = defs[ref["$ref"].rpartition("/")[2]]
        names[name] = own.get("description", "").partition("\n")[0]
        own["properties"] = dict.fromkeys(entry["properties"], True) | own.get("properties", {})
        entry["allOf"].append({"if": {"properties": {"use": {"const": name}}, "required": ["use"]}, "then": ref})
    stage = {"enum": list(names), "enumDescriptions": list(names.values())}
    graph = Settings.model_json_schema()
    graph["properties"]["stages"] |= {"items": {"$ref": "#/$defs/entry"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **graph,
        "title": "A bwpipe graph",
        "if": {"properties": {"plugins": {"minItems": 1}}, "required": ["plugins"]},
        "else": {"properties": {"stages": _known_stages(classes)}},
        "$defs": {**graph["$defs"], **defs, "entry": entry, "stage": stage},
    }


def schema_text() -> str:
    """The schema as the text of a file. Raises PluginError."""
    return json.dumps(schema(), indent=2) + "\n"


def _known_stages(classes: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list of known stages whose first one is the only source."""
    sources = {"properties": {"use": {"enum": [name for name, cls in classes.items() if issubclass(cls, Source)]}}}
    return {
        "prefixItems": [{**sources, "not": {"required": ["from"], "properties": {"from": {"type": "string"}}}}],
        "items": {"properties": {"use": {"$ref": "#/$defs/stage"}}},
        "contains": sources,
        "maxContains": 1,
    }
