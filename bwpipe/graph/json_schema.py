"""The JSON Schema of graph files, for editors."""

from typing import Any

from pydantic.json_schema import models_json_schema

from bwpipe.core import plugins
from bwpipe.core.stage import Source, stages
from bwpipe.graph.graph import Entry, Settings

_REF = "#/$defs/{model}"


def schema() -> dict[str, Any]:
    """Make the JSON Schema (2020-12) of a graph file, with the options of every built-in and installed stage.

    It refuses what a schema can: unknown keys, stages and options, wrong values, a graph whose source is not its first stage.
    Of a file that names `plugins` it takes stages that it does not know, since only the file's own folders know them.

    Raises:
        PluginError: An installed plugin can't be imported.
    """
    plugins.load()
    classes = {name: stages[name] for name in stages}
    refs, options = models_json_schema([(cls, "validation") for cls in classes.values()], ref_template=_REF)
    defs: dict[str, Any] = options.get("$defs", {})
    entry = Entry.model_json_schema(by_alias=True)
    entry["properties"]["use"]["examples"] = list(classes)
    entry["allOf"] = []
    for name, cls in classes.items():
        ref = refs[cls, "validation"]
        own = defs[ref["$ref"].rpartition("/")[2]]
        own["properties"] = dict.fromkeys(entry["properties"], True) | own.get("properties", {})
        entry["allOf"].append({"if": {"properties": {"use": {"const": name}}, "required": ["use"]}, "then": ref})
    graph = Settings.model_json_schema()
    graph["properties"]["stages"] |= {"items": {"$ref": "#/$defs/entry"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **graph,
        "title": "A graph of bwpipe",
        "if": {"properties": {"plugins": {"minItems": 1}}, "required": ["plugins"]},
        "else": {"properties": {"stages": _known(classes)}},
        "$defs": {**defs, "entry": entry},
    }


def _known(classes: dict[str, Any]) -> dict[str, Any]:
    """A list of stages that are all known: the first one is the only source."""
    sources = {"properties": {"use": {"enum": [name for name, cls in classes.items() if issubclass(cls, Source)]}}}
    return {
        "prefixItems": [{**sources, "not": {"required": ["from"], "properties": {"from": {"type": "string"}}}}],
        "items": {"properties": {"use": {"enum": list(classes)}}},
        "contains": sources,
        "maxContains": 1,
    }
