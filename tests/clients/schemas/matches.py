"""Validates values by JSON Schemas (2020-12).

Reads lines of {"document", "at", "instance"}: the schema is at that JSON Pointer of the document, which its references lead into.
Prints a line for each value that does not match: the number of the line, from 1, and why.
"""
import json
import sys

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT = "urn:document"

for number, line in enumerate(sys.stdin, 1):
    case = json.loads(line)
    resource = Resource.from_contents(case["document"], default_specification=DRAFT202012)
    schema = {"$ref": f"{DOCUMENT}#{case['at']}"}
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, registry=Registry().with_resource(DOCUMENT, resource))
    for error in validator.iter_errors(case["instance"]):
        print(number, error.json_path, error.message[:400])
