"""Writes records with Confluent's serializers, with the schemas that they come with.

    records.py BOOTSTRAP REGISTRY [headers] < lines

A line of JSON per record: {"topic", "key", "value"}, where a key or a value is null, {"text"}, or {"kind", "schema", "value"}
with the kind AVRO, PROTOBUF or JSON. A schema of Avro is an object, one of Protobuf {"files" (FileDescriptorSet in base64,
imports first), "message"}. A part of Avro may have "references", a list of {"name", "schema"}, which are registered by their
names. In a value {"$decimal": "1.50"} is a decimal, {"$bytes": "base64"} are bytes.

With `headers` the ids of schemas are in headers. A REGISTRY of "mock://" is one within this process; its schemas are printed: a
line of {"guid", "id", "schema", "schemaType"} for each.
"""
import base64
import decimal
import json
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def special(value):
    if "$decimal" in value:
        return decimal.Decimal(value["$decimal"])
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    return value


class Serializers:
    """A serializer per schema."""

    def __init__(self, registry, conf):
        self.registry, self.conf, self.made = registry, conf, {}

    def write(self, part, context):
        if part is None:
            return None
        if "text" in part:
            return part["text"].encode()
        kind, schema = part["kind"], part["schema"]
        references = part.get("references", [])
        named = json.dumps([kind, context.topic, context.field, schema, references])
        if named not in self.made:
            self.made[named] = getattr(self, kind.lower())(schema, *([references] if references else []))
        return self.made[named](part["value"], context)

    def avro(self, schema, references=()):
        for reference in references:
            self.registry.register_schema(reference["name"], Schema(json.dumps(reference["schema"]), "AVRO"))
        named = [SchemaReference(name, name, self.registry.get_latest_version(name).version)
                 for name in (reference["name"] for reference in references)]
        return AvroSerializer(self.registry, Schema(json.dumps(schema), "AVRO", named), conf=self.conf)

    def json(self, schema):
        return JSONSerializer(json.dumps(schema), self.registry, conf=self.conf)

    def protobuf(self, schema):
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(schema["files"])).file:
            pool.Add(file)
        made = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema["message"]))
        serializer = ProtobufSerializer(made, self.registry, self.conf)
        return lambda value, context: serializer(json_format.ParseDict(value, made()), context)


def main():
    bootstrap, url = sys.argv[1:3]
    conf = {"schema.id.serializer": header_schema_id_serializer} if "headers" in sys.argv[3:] else {}
    registry = SchemaRegistryClient.new_client({"url": url})
    serializers = Serializers(registry, conf)
    producer = Producer({"bootstrap.servers": bootstrap})
    topics = set()
    for line in sys.stdin:
        record = json.loads(line, object_hook=special)
        topics.add(record["topic"])
        headers = []
        key, value = (serializers.write(record[name], SerializationContext(record["topic"], field, headers=headers))
                      for name, field in [("key", MessageField.KEY), ("value", MessageField.VALUE)])
        producer.produce(record["topic"], key=key, value=value, headers=headers, partition=0)
    if producer.flush(30):
        sys.exit("not everything was written")
    if url == "mock://":
        for subject in registry.get_subjects():
            for version in registry.get_versions(subject):
                registered = registry.get_version(subject, version)
                print(json.dumps({"guid": registered.guid, "id": registered.schema_id,
                                  "schema": registered.schema.schema_str,
                                  "schemaType": registered.schema.schema_type}))


main()
