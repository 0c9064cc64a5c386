"""The reference libraries' side of trials whose schemas are made elsewhere. A line of JSON per case on stdin.

    read.py avro                 {"schema", "payload" (base64)}; prints what fastavro reads as JSON, as it is documented in
                                 docs/wire.md: {"plain", "tagged", "numbers"}
    read.py protobuf SEED        {"files" (FileDescriptorSet in base64, imports first), "file", "count"}; prints so many random
                                 messages of the file's types: {"payload" (base64, behind its indexes), "json"}
"""
import base64
import datetime
import io
import json
import random
import struct
import sys

import fastavro
from fastavro import _read_py
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

import cases

NAMED = ("record", "enum", "fixed", "error")
UNITS = {"millis": 3, "micros": 6, "nanos": 9}
DAY = 24 * 60 * 60


class Branch:
    """The value of a union, with the place of its type."""

    def __init__(self, index, value):
        self.index, self.value = index, value


def read_union(decoder, writer_schema, named_schemas, reader_schema=None, options={}):
    index = decoder.read_index()
    return Branch(index, _read_py.read_data(decoder, writer_schema[index], named_schemas, None, options))


# fastavro reads the bytes; what is a union or a logical type is shown below. Its own dates end before the year 1, and its
# unions do not tell an int from a long.
_read_py.READERS["union"] = read_union
_read_py.LOGICAL_READERS.clear()


class Shown:
    """Values as docs/wire.md says."""

    def __init__(self, names, tagged=False, numbers=False):
        self.names, self.tagged, self.numbers = names, tagged, numbers

    def long(self, value):
        return str(value) if self.numbers else value

    def value(self, schema, value):
        if isinstance(schema, list):
            branch = schema[value.index]
            shown = self.value(branch, value.value)
            if branch == "null" or not self.tagged:
                return shown
            if isinstance(branch, dict):
                branch = branch["name"] if branch["type"] in NAMED else branch["type"]
            return {branch: shown}
        if isinstance(schema, str) and schema in self.names:
            schema = self.names[schema]
        kind = schema if isinstance(schema, str) else schema["type"]
        logical = isinstance(schema, dict) and self.logical(kind, schema, value)
        if logical:
            return logical[0]
        if kind == "record":
            return {field["name"]: self.value(field["type"], value[field["name"]]) for field in schema["fields"]}
        if kind == "array":
            return [self.value(schema["items"], item) for item in value]
        if kind == "map":
            return {name: self.value(schema["values"], item) for name, item in value.items()}
        if kind in ("bytes", "fixed"):
            return base64.b64encode(value).decode()
        if kind == "float":
            return cases.number(value) if value - value != 0 else cases.shortest(value)
        if kind == "double":
            return cases.number(value)
        if kind == "long":
            return self.long(value)
        return value

    def logical(self, kind, schema, value):
        """The JSON of a logical type in a list, or None where the type is none."""
        name = schema.get("logicalType")
        if name == "decimal" and kind in ("bytes", "fixed"):
            return [scaled(int.from_bytes(value, "big", signed=True), schema.get("scale", 0))]
        if name == "big-decimal" and kind == "bytes":
            inner = io.BytesIO(value)
            unscaled = fastavro.schemaless_reader(inner, "bytes")
            scale = fastavro.schemaless_reader(inner, "long")
            return [scaled(int.from_bytes(unscaled, "big", signed=True), scale)]
        if name == "uuid" and kind == "fixed" and schema["size"] == 16:
            text = value.hex()
            return ["-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])]
        if name == "duration" and kind == "fixed" and schema["size"] == 12:
            months, days, millis = struct.unpack("<III", value)
            return [f"P{months}M{days}DT{millis // 1000}.{millis % 1000:03}S"]
        if name == "date" and kind == "int":
            return [value if self.numbers else date(value) or value]
        base, _, unit = (name or "").rpartition("-")
        if base == "time" and kind == {"millis": "int", "micros": "long"}.get(unit):
            number = value if kind == "int" else self.long(value)
            if self.numbers or not 0 <= value < DAY * 10 ** UNITS[unit]:
                return [number]
            return [clock(value, UNITS[unit])]
        if base in ("timestamp", "local-timestamp") and unit in UNITS and kind == "long":
            days, time = divmod(value, DAY * 10 ** UNITS[unit])
            if self.numbers or not date(days):
                return [self.long(value)]
            return [f"{date(days)}T{clock(time, UNITS[unit])}{'' if base.startswith('local') else 'Z'}"]
        return None


def scaled(unscaled, scale):
    digits = str(abs(unscaled))
    if scale <= 0:
        digits += "0" * -scale if unscaled else ""
    else:
        digits = digits.rjust(scale + 1, "0")
        digits = f"{digits[:-scale]}.{digits[-scale:]}"
    return ("-" if unscaled < 0 else "") + digits


def date(days):
    """RFC 3339 of the years 0 to 9999."""
    ordinal = days + datetime.date(1970, 1, 1).toordinal()
    if 1 <= ordinal <= datetime.date.max.toordinal():
        return datetime.date.fromordinal(ordinal).isoformat()
    # The year 0 is like the year 400.
    if -366 < ordinal < 1:
        return "0000" + datetime.date.fromordinal(ordinal + 146097).isoformat()[4:]
    return None


def clock(value, digits):
    seconds, fraction = divmod(value, 10 ** digits)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:0{digits}}"


def avro(case):
    names = {}
    schema = fastavro.parse_schema(json.loads(case["schema"]), named_schemas=names)
    payload = io.BytesIO(base64.b64decode(case["payload"]))
    value = _read_py.schemaless_reader(payload, schema)
    if payload.read():
        raise ValueError("bytes follow the value")
    show = lambda **how: Shown(names, **how).value(schema, value)
    yield {"plain": show(), "tagged": show(tagged=True), "numbers": show(numbers=True)}


class Messages(cases.Protobuf):
    """Random messages of types that are made elsewhere."""

    def __init__(self, rng, case):
        super().__init__(rng, 0)
        self.pool = descriptor_pool.DescriptorPool()
        files = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(case["files"]))
        for file in files.file:
            self.pool.Add(file)
        # Types with their indexes, as in the file; the messages of maps have indexes, and are no types.
        self.types = []
        for index, message in enumerate(next(file for file in files.file if file.name == case["file"]).message_type):
            self.collect(message, self.pool.FindFileByName(case["file"]).package, [index])

    def collect(self, message, scope, indexes):
        name = f"{scope}.{message.name}" if scope else message.name
        if not message.options.map_entry:
            self.types.append((name, indexes))
        for index, nested in enumerate(message.nested_type):
            self.collect(nested, name, indexes + [index])

    def case(self):
        rng = self.rng
        self.sign = rng.choice([1, -1])
        name, indexes = rng.choice(self.types)
        made = message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))()
        self.fill(made, 3)
        written, made = self.payload(made)
        prefix = bytes([0]) if indexes == [0] else bytes(2 * number for number in [len(indexes)] + indexes)
        return {"payload": base64.b64encode(prefix + written).decode(),
                "json": json_format.MessageToDict(made, descriptor_pool=self.pool)}


def protobuf(rng, case):
    messages = Messages(rng, case)
    for _ in range(case["count"]):
        yield messages.case()


def main():
    kind = sys.argv[1]
    rng = random.Random(int(sys.argv[2])) if kind == "protobuf" else None
    for line in sys.stdin:
        case = json.loads(line)
        for read in avro(case) if kind == "avro" else protobuf(rng, case):
            print(json.dumps(read))


main()
