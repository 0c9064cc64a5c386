// Checks the two descriptions of an API, read as {"openapi","asyncapi"} from stdin, by the schemas of their specifications, and
// every JSON Schema in the events. Prints what is wrong; nothing if they are valid.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv from "ajv";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const documents = JSON.parse(await text(process.stdin));

const openapi = await new Validator().validate(documents.openapi);
if (!openapi.valid) console.log("openapi", JSON.stringify(openapi.errors));

const { resolve } = createRequire(import.meta.url);
const schema = JSON.parse(await readFile(resolve("@asyncapi/specs/schemas/3.0.0.json")));
// The schema brings the meta-schema that it refers to.
const ajv = addFormats(new Ajv({ meta: false, validateSchema: false, strict: false, allErrors: true, logger: false, unicodeRegExp: false }));
const isAsyncApi = ajv.compile(schema);
if (!isAsyncApi(documents.asyncapi)) console.log("asyncapi", JSON.stringify(isAsyncApi.errors));

const ids = Object.values(documents.openapi.paths).map((path) => path.get.operationId);
if (new Set(ids).size !== ids.length) console.log("openapi: an operationId is repeated", JSON.stringify(ids));

// A reference leads to something.
const at = (pointer) => pointer.slice(2).split("/").reduce((place, name) => place?.[name.replace("~1", "/")], documents.asyncapi);
const payloads = addFormats(new Ajv2020({ strict: true, allowUnionTypes: true, logger: false }));
const components = documents.asyncapi.components.schemas;
for (const [name, schema] of Object.entries(components)) payloads.addSchema(inPlace(schema), name);
// With references to schemas by their names.
function inPlace(schema) {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components/schemas/', '"'));
}
for (const { messages } of Object.values(documents.asyncapi.channels)) {
  for (const [name, message] of Object.entries(messages)) {
    const { payload } = message.$ref ? (at(message.$ref) ?? {}) : message;
    try {
      payloads.compile(inPlace(payload));
    } catch (error) {
      console.log("asyncapi", name, error.message);
    }
  }
}
