"""Prints random schemas and values, encoded by fastavro and by Google's protobuf, with the JSON that they stand for.

    cases.py avro|protobuf SEED COUNT

A line per value: {"kind", "schema", "payload" (base64), "json", and for Avro "tagged"}.
"""
import base64
import datetime
import decimal
import io
import json
import random
import string
import struct
import sys
import uuid

import fastavro
from confluent_kafka.schema_registry.confluent import meta_pb2
from confluent_kafka.schema_registry.confluent.type import decimal_pb2 as confluent_decimal_pb2, variant_pb2
from confluent_kafka.schema_registry.confluent.types import decimal_pb2 as legacy_decimal_pb2
from google.protobuf import (any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, field_mask_pb2, json_format,
                             message_factory, struct_pb2, timestamp_pb2, wrappers_pb2)
from google.type import (calendar_period_pb2, color_pb2, date_pb2, datetime_pb2, dayofweek_pb2, decimal_pb2, expr_pb2,
                         fraction_pb2, interval_pb2, latlng_pb2, localized_text_pb2, money_pb2, month_pb2,
                         phone_number_pb2, postal_address_pb2, quaternion_pb2, timeofday_pb2)

TEXTS = ["", "a", "Zürich", "\"quoted\"\\", "line\nend\r\t", "\u0001\u007f", "日本語 🚀", "x" * 200]
DAY = 24 * 60 * 60
EPOCH = datetime.datetime(1970, 1, 1)


def shortest(value):
    """The number of fewest digits that is the same float of 32 bits."""
    packed = struct.pack("<f", value)
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        try:
            if struct.pack("<f", float(text)) == packed:
                return float(text)
        except OverflowError:
            continue
    return value


def number(value):
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class Avro:
    """Schemas, and values with their JSON. A value is what fastavro's writer takes."""

    def __init__(self, rng):
        self.rng, self.count, self.names = rng, 0, {}

    def name(self, prefix):
        self.count += 1
        return f"{prefix}{self.count}"

    def schema(self, depth):
        rng = self.rng
        simple = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
        logical = ["date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros",
                   "local-timestamp-millis", "local-timestamp-micros", "uuid", "decimal", "decimal-fixed"]
        kinds = ["simple"] * 4 + ["logical"] * 2 + ["enum", "fixed"]
        if depth > 0:
            kinds += ["record"] * 3 + ["array", "map"] * 2 + ["union"] * 3
        if self.names and rng.random() < 0.1:
            return rng.choice(list(self.names))
        kind = rng.choice(kinds)
        if kind == "simple":
            return rng.choice(simple)
        if kind == "logical":
            return self.logical(rng.choice(logical))
        if kind == "array":
            return {"type": "array", "items": self.schema(depth - 1)}
        if kind == "map":
            return {"type": "map", "values": self.schema(depth - 1)}
        if kind == "union":
            branches, seen = [], set()
            for _ in range(rng.randint(1, 4)):
                before = dict(self.names)
                branch = self.schema(depth - 1)
                word = self.branch_kind(branch)
                if isinstance(branch, list) or word in seen:
                    self.names = before
                    continue
                seen.add(word)
                branches.append(branch)
            return branches or ["null", "string"]
        if kind == "fixed":
            name = self.name("F")
            self.names[f"n.{name}"] = schema = {"type": "fixed", "name": name, "namespace": "n",
                                                "size": rng.randint(1, 20)}
            return schema
        if kind == "enum":
            name = self.name("E")
            self.names[f"n.{name}"] = schema = {"type": "enum", "name": name, "namespace": "n",
                                                "symbols": [f"S{i}" for i in range(rng.randint(1, 5))]}
            return schema
        return self.record(depth)

    def record(self, depth):
        name = self.name("R")
        schema = {"type": "record", "name": name, "namespace": "n", "fields": []}
        # A type may be within itself behind a union only.
        fields = [{"name": f"f{i}", "type": self.schema(depth - 1)} for i in range(self.rng.randint(0, 8))]
        if self.rng.random() < 0.3:
            fields.append({"name": "next", "type": ["null", f"n.{name}"]})
        schema["fields"] = fields
        self.names[f"n.{name}"] = schema
        return schema

    def logical(self, kind):
        rng = self.rng
        if kind == "decimal":
            precision = rng.randint(1, 60)
            return {"type": "bytes", "logicalType": "decimal", "precision": precision,
                    "scale": rng.randint(0, precision)}
        if kind == "decimal-fixed":
            name = self.name("D")
            schema = {"type": "fixed", "name": name, "namespace": "n", "size": 12, "logicalType": "decimal",
                      "precision": 20, "scale": rng.randint(0, 20)}
            self.names[f"n.{name}"] = schema
            return schema
        under = {"date": "int", "time-millis": "int", "uuid": "string"}.get(kind, "long")
        return {"type": under, "logicalType": kind}

    def branch_kind(self, schema):
        if isinstance(schema, str):
            return schema
        if isinstance(schema, list):
            return "union"
        if "name" in schema:
            return f"n.{schema['name']}"
        return schema["type"]

    def value(self, schema, depth):
        """(value for fastavro, plain JSON, tagged JSON)"""
        rng = self.rng
        if isinstance(schema, list):
            branch = schema[0] if depth <= 0 else rng.choice(schema)
            value, plain, tagged = self.value(branch, depth - 1)
            if plain is None and branch == "null":
                return None, None, None
            word = self.branch_kind(branch)
            return (word, value), plain, {word: tagged}
        if isinstance(schema, str) and schema in self.names:
            schema = self.names[schema]
        kind = schema if isinstance(schema, str) else schema.get("logicalType", schema["type"])
        same = lambda value, shown: (value, shown, shown)
        if kind == "null":
            return same(None, None)
        if kind == "boolean":
            value = rng.random() < 0.5
            return same(value, value)
        if kind in ("int", "long"):
            bits = 31 if kind == "int" else 63
            value = rng.choice([0, -1, 1, 2**bits - 1, -2**bits, rng.getrandbits(bits) - 2**(bits - 1)])
            return same(value, value)
        if kind == "float":
            value = rng.choice([0.0, 0.1, -1.5, 3.4e38, 1e-40, rng.uniform(-1e6, 1e6), float("nan"), float("inf")])
            value = struct.unpack("<f", struct.pack("<f", value))[0]
            return same(value, number(value) if value - value != 0 else shortest(value))
        if kind == "double":
            value = rng.choice([0.0, 0.1, -1.5, 1.7e308, 5e-324, rng.uniform(-1e9, 1e9), float("nan"), float("-inf")])
            return same(value, number(value))
        if kind == "bytes":
            value = rng.randbytes(rng.randint(0, 40))
            return same(value, base64.b64encode(value).decode())
        if kind == "fixed":
            value = rng.randbytes(schema["size"])
            return same(value, base64.b64encode(value).decode())
        if kind == "string":
            value = rng.choice(TEXTS)
            return same(value, value)
        if kind == "enum":
            value = rng.choice(schema["symbols"])
            return same(value, value)
        if kind == "array":
            items = [self.value(schema["items"], depth - 1) for _ in range(rng.randint(0, 3 if depth > 0 else 0))]
            return tuple(list(part) for part in zip(*items)) if items else ([], [], [])
        if kind == "map":
            names = rng.sample(TEXTS, rng.randint(0, 3 if depth > 0 else 0))
            items = [self.value(schema["values"], depth - 1) for _ in names]
            return tuple(dict(zip(names, part)) for part in zip(*items)) if items else ({}, {}, {})
        if kind == "record":
            fields = [(field["name"], self.value(field["type"], depth - 1)) for field in schema["fields"]]
            return tuple({name: parts[i] for name, parts in fields} for i in range(3))
        return self.logical_value(kind, schema)

    def logical_value(self, kind, schema):
        rng = self.rng
        if kind == "uuid":
            value = uuid.UUID(bytes=rng.randbytes(16))
            return value, str(value), str(value)
        if kind == "decimal":
            digits = rng.randint(0, 10 ** schema["precision"] - 1) * rng.choice([1, -1])
            with decimal.localcontext() as context:
                context.prec = 100
                value = decimal.Decimal(digits).scaleb(-schema["scale"])
            text = str(abs(digits)).rjust(schema["scale"] + 1, "0")
            point = len(text) - schema["scale"]
            text = text[:point] + ("." + text[point:] if schema["scale"] else "")
            text = "-" + text if digits < 0 else text
            return value, text, text
        if kind == "date":
            value = datetime.date.fromordinal(rng.randint(1, 3652059))
            return value, value.isoformat(), value.isoformat()
        if kind.startswith("time-"):
            micros = rng.randrange(DAY * 1_000_000)
            spec = "milliseconds" if kind.endswith("millis") else "microseconds"
            if kind.endswith("millis"):
                micros -= micros % 1000
            value = (EPOCH + datetime.timedelta(microseconds=micros)).time()
            return value, value.isoformat(spec), value.isoformat(spec)
        spec = "milliseconds" if kind.endswith("millis") else "microseconds"
        micros = rng.randint(-62135596800 * 10**6, 253402300799 * 10**6)
        if kind.endswith("millis"):
            micros -= micros % 1000
        value = EPOCH + datetime.timedelta(microseconds=micros)
        text = value.isoformat(timespec=spec)
        if not kind.startswith("local"):
            value, text = value.replace(tzinfo=datetime.timezone.utc), text + "Z"
        return value, text, text

    def case(self):
        schema = self.schema(3)
        while isinstance(schema, list) or not isinstance(schema, dict):
            self.names = {}
            schema = self.schema(3)
        value, plain, tagged = self.value(schema, 5)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
        return {"kind": "AVRO", "schema": json.dumps(schema), "payload": base64.b64encode(out.getvalue()).decode(),
                "json": plain, "tagged": tagged}


SCALARS = ["DOUBLE", "FLOAT", "INT64", "UINT64", "INT32", "FIXED64", "FIXED32", "BOOL", "STRING", "BYTES", "UINT32",
           "SFIXED32", "SFIXED64", "SINT32", "SINT64"]
KEYS = ["INT64", "UINT64", "INT32", "FIXED64", "FIXED32", "BOOL", "STRING", "UINT32", "SFIXED32", "SFIXED64", "SINT32",
        "SINT64"]
KNOWN = {"Timestamp": timestamp_pb2, "Duration": duration_pb2, "FieldMask": field_mask_pb2, "Struct": struct_pb2,
         "Value": struct_pb2, "ListValue": struct_pb2, "Any": any_pb2, "Int64Value": wrappers_pb2,
         "UInt64Value": wrappers_pb2, "StringValue": wrappers_pb2, "BoolValue": wrappers_pb2,
         "BytesValue": wrappers_pb2, "FloatValue": wrappers_pb2, "DoubleValue": wrappers_pb2,
         "Int32Value": wrappers_pb2, "UInt32Value": wrappers_pb2}
# What schemas import without a reference: all files of these packages, as confluent-kafka's _is_builtin has it.
BUNDLED = [calendar_period_pb2, color_pb2, date_pb2, datetime_pb2, dayofweek_pb2, decimal_pb2, expr_pb2, fraction_pb2,
           interval_pb2, latlng_pb2, localized_text_pb2, money_pb2, month_pb2, phone_number_pb2, postal_address_pb2,
           quaternion_pb2, timeofday_pb2, meta_pb2, confluent_decimal_pb2, variant_pb2]
# (module that is imported, its own types or those that it imports publicly)
IMPORTS = [(module, module) for module in BUNDLED] + [(legacy_decimal_pb2, confluent_decimal_pb2)]
Field = descriptor_pb2.FieldDescriptorProto


class Protobuf:
    def __init__(self, rng, number):
        self.rng, self.number = rng, number

    def case(self):
        rng = self.rng
        self.sign = rng.choice([1, -1])
        self.syntax = rng.choice(["proto2", "proto3"])
        file = descriptor_pb2.FileDescriptorProto(name=f"case{self.number}.proto", package="t", syntax=self.syntax)
        if self.syntax == "proto2":
            file.ClearField("syntax")
        for module in set(KNOWN.values()):
            file.dependency.append(module.DESCRIPTOR.name)
        file.dependency.sort()
        # Each of them is compiled again for each case, so not all at once.
        self.bundled = rng.sample(IMPORTS, 2) if rng.random() < 0.3 else []
        for module, _ in self.bundled:
            file.dependency.append(module.DESCRIPTOR.name)
        symbols = file.enum_type.add(name="Color")
        for index, name in enumerate(["RED", "GREEN", "BLUE"]):
            symbols.value.add(name=name, number=index * 7)
        names = [f"M{index}" for index in range(rng.randint(1, 4))]
        for name in names:
            self.message(file.message_type.add(name=name), names)
        pool = descriptor_pool.DescriptorPool()
        for module in set(KNOWN.values()):
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
        for module in BUNDLED + [legacy_decimal_pb2]:
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        pool.Add(file)
        index = rng.randrange(len(names))
        self.pool = pool
        made = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{names[index]}"))()
        self.fill(made, 3)
        written, made = self.payload(made)
        shown = json_format.MessageToDict(made, descriptor_pool=pool)
        zigzag = bytes([0]) if index == 0 else bytes([2, index * 2])
        return {"kind": "PROTOBUF", "schema": base64.b64encode(file.SerializeToString()).decode(),
                "payload": base64.b64encode(zigzag + written).decode(), "json": shown}

    def payload(self, made):
        """The bytes of a message, and the message that they are."""
        written = made.SerializeToString()
        if self.rng.random() < 0.3:
            # Parts of a message that come one after the other are one message.
            more = type(made)()
            self.fill(more, 2)
            written += more.SerializeToString()
        # What is printed is what is read: an extension that was touched is not in the bytes.
        return written, type(made).FromString(written)

    def message(self, message, names):
        rng = self.rng
        oneof = None
        numbers = rng.sample(range(1, 60), rng.randint(0, 9))
        for index, number in enumerate(numbers):
            field = message.field.add(name=f"some_field{index}", number=number)
            field.label = Field.LABEL_REPEATED if rng.random() < 0.25 else Field.LABEL_OPTIONAL
            kind = rng.random()
            if kind < 0.55:
                field.type = getattr(Field, "TYPE_" + rng.choice(SCALARS))
            elif kind < 0.65:
                field.type, field.type_name = Field.TYPE_ENUM, ".t.Color"
            elif kind < 0.75:
                field.type, field.type_name = Field.TYPE_MESSAGE, ".t." + rng.choice(names)
            elif kind < 0.80 and self.bundled:
                _, types = rng.choice(self.bundled)
                messages, enums = types.DESCRIPTOR.message_types_by_name, types.DESCRIPTOR.enum_types_by_name
                name = rng.choice(list(messages) + list(enums))
                field.type = Field.TYPE_MESSAGE if name in messages else Field.TYPE_ENUM
                field.type_name = f".{types.DESCRIPTOR.package}.{name}"
            elif kind < 0.87:
                field.type = Field.TYPE_MESSAGE
                field.type_name = ".google.protobuf." + rng.choice(list(KNOWN))
            elif kind < 0.92 and self.syntax == "proto2":
                group = message.nested_type.add(name=f"Group{index}")
                group.field.add(name="inner", number=1, type=Field.TYPE_INT32, label=Field.LABEL_OPTIONAL)
                field.name = f"group{index}"
                field.type, field.type_name = Field.TYPE_GROUP, f".t.{message.name}.Group{index}"
            else:
                entry = message.nested_type.add(name=f"SomeField{index}Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, type=getattr(Field, "TYPE_" + rng.choice(KEYS)),
                                label=Field.LABEL_OPTIONAL)
                value = entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL)
                if rng.random() < 0.3:
                    value.type, value.type_name = Field.TYPE_MESSAGE, ".t." + rng.choice(names)
                else:
                    value.type = getattr(Field, "TYPE_" + rng.choice(SCALARS))
                field.label = Field.LABEL_REPEATED
                field.type, field.type_name = Field.TYPE_MESSAGE, f".t.{message.name}.SomeField{index}Entry"
            if field.label == Field.LABEL_OPTIONAL and field.type != Field.TYPE_GROUP and rng.random() < 0.25:
                if oneof is None:
                    oneof = len(message.oneof_decl)
                    message.oneof_decl.add(name="choice")
                field.oneof_index = oneof
        if self.syntax == "proto3":
            for index, field in enumerate(list(message.field)):
                alone = field.label == Field.LABEL_OPTIONAL and not field.HasField("oneof_index")
                if alone and field.type != Field.TYPE_MESSAGE and rng.random() < 0.3:
                    field.proto3_optional = True
                    field.oneof_index = len(message.oneof_decl)
                    message.oneof_decl.add(name=f"_{field.name}")

    def fill(self, message, depth):
        rng = self.rng
        name = message.DESCRIPTOR.full_name
        if name.startswith("google.protobuf."):
            return self.known(message, name.rsplit(".", 1)[1], depth)
        for extension in self.pool.FindAllExtensions(message.DESCRIPTOR):
            if extension.is_repeated:
                message.Extensions[extension].extend(self.scalar(extension) for _ in range(rng.randint(0, 3)))
            elif rng.random() < 0.5:
                message.Extensions[extension] = self.scalar(extension)
        for field in message.DESCRIPTOR.fields:
            if rng.random() < 0.3 and not field.is_required:
                continue
            repeated = field.is_repeated
            if repeated and field.message_type and field.message_type.GetOptions().map_entry:
                self.fill_map(getattr(message, field.name), field, depth)
            elif field.message_type:
                if depth <= 0:
                    continue
                if repeated:
                    for _ in range(rng.randint(0, 3)):
                        self.fill(getattr(message, field.name).add(), depth - 1)
                else:
                    made = getattr(message, field.name)
                    made.SetInParent()
                    self.fill(made, depth - 1)
            elif repeated:
                getattr(message, field.name).extend(self.scalar(field) for _ in range(rng.randint(0, 4)))
            else:
                setattr(message, field.name, self.scalar(field))

    def fill_map(self, target, field, depth):
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        for _ in range(self.rng.randint(0, 3)):
            if value.message_type:
                if depth > 0:
                    self.fill(target[self.scalar(key)], depth - 1)
            else:
                target[self.scalar(key)] = self.scalar(value)

    def scalar(self, field):
        rng, kind = self.rng, field.cpp_type
        if kind == field.CPPTYPE_STRING:
            return rng.randbytes(rng.randint(0, 20)) if field.type == field.TYPE_BYTES else rng.choice(TEXTS)
        if kind == field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind == field.CPPTYPE_ENUM:
            # Other numbers are kept where enums are open.
            numbers = [value.number for value in field.enum_type.values]
            return rng.choice(numbers + ([] if field.enum_type.is_closed else [99, -1]))
        if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            return rng.choice([0.0, -0.0, 0.1, 1e20, -3.25, rng.uniform(-1e6, 1e6), float("nan"), float("inf"),
                               float("-inf")])
        bits, is_signed = {field.CPPTYPE_INT32: (31, True), field.CPPTYPE_INT64: (63, True),
                           field.CPPTYPE_UINT32: (32, False), field.CPPTYPE_UINT64: (64, False)}[kind]
        return rng.choice([0, 1, 2**bits - 1, rng.getrandbits(bits)] + ([-1, -2**bits] if is_signed else []))

    def known(self, message, name, depth):
        rng = self.rng
        if name == "Timestamp":
            message.seconds = rng.randint(-62135596800, 253402300799)
            message.nanos = rng.choice([0, 500_000_000, 123_456_000, 1])
        elif name == "Duration":
            # The parts of a message have one sign.
            sign = self.sign
            message.seconds = sign * rng.randint(0, 315576000000)
            message.nanos = sign * rng.choice([0, 500_000_000, 123_456_000, 1])
        elif name == "FieldMask":
            message.paths.extend(rng.sample(["a", "user.display_name", "photo_url"], rng.randint(0, 3)))
        elif name == "Any":
            inner = wrappers_pb2.Int64Value(value=rng.getrandbits(60))
            if rng.random() < 0.7:
                message.type_url = "type.googleapis.com/google.protobuf.Int64Value"
                message.value = inner.SerializeToString()
        elif name in ("Struct", "Value", "ListValue"):
            value = self.dynamic(depth)
            if name == "Struct":
                json_format.ParseDict(value if isinstance(value, dict) else {"only": value}, message)
            elif name == "ListValue":
                json_format.ParseDict(value if isinstance(value, list) else [value], message)
            else:
                json_format.ParseDict(value, message)
        else:
            message.value = self.scalar(message.DESCRIPTOR.fields_by_name["value"])

    def dynamic(self, depth):
        rng = self.rng
        kind = rng.randrange(6 if depth > 0 else 4)
        if kind == 4:
            return [self.dynamic(depth - 1) for _ in range(rng.randint(0, 3))]
        if kind == 5:
            return {name: self.dynamic(depth - 1) for name in rng.sample(TEXTS, rng.randint(0, 3))}
        return [None, rng.random() < 0.5, rng.uniform(-1e6, 1e6), rng.choice(TEXTS)][kind]


def main():
    kind, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    for index in range(count):
        case = Avro(rng).case() if kind == "avro" else Protobuf(rng, index).case()
        print(json.dumps(case))


if __name__ == "__main__":
    main()
