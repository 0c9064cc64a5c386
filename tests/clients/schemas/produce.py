"""Writes records with Confluent's serializers, with schemas that it registers.

    produce.py BOOTSTRAP REGISTRY avro|protobuf|json TOPIC

Keys are strings. A line per record: its value as JSON.
"""
import json
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

AVRO = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "lines", "type": {"type": "array", "items": "string"}},
    ],
}
JSON_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Order",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "note": {"type": ["string", "null"]}, "lines": {"type": "array"}},
}


def message_type():
    file = descriptor_pb2.FileDescriptorProto(name="shop/order.proto", package="shop", syntax="proto3")
    # Not the first, so that its index is written.
    file.message_type.add(name="Other")
    order = file.message_type.add(name="Order")
    field = descriptor_pb2.FieldDescriptorProto
    order.field.add(name="id", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    order.field.add(name="note", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    order.field.add(name="lines", number=3, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


def main():
    bootstrap, url, kind, topic = sys.argv[1:5]
    registry = SchemaRegistryClient({"url": url})
    orders = [{"id": number, "note": f"Zürich {number}", "lines": ["a", "b"]} for number in range(1, 4)]
    if kind == "avro":
        serialize = AvroSerializer(registry, json.dumps(AVRO))
    elif kind == "json":
        serialize = JSONSerializer(json.dumps(JSON_SCHEMA), registry)
    else:
        order = message_type()
        protobuf = ProtobufSerializer(order, registry, {"use.deprecated.format": False})
        serialize = lambda value, context: protobuf(order(**value), context)
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in orders:
        context = SerializationContext(topic, MessageField.VALUE, headers=[])
        payload = serialize(value, context)
        producer.produce(topic, key=str(value["id"]), value=payload, partition=0)
        print(json.dumps(value), flush=True)
    if producer.flush(30):
        sys.exit("not everything was written")


main()
