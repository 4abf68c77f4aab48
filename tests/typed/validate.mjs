// node validate.mjs <node_modules>, with `{ "asyncApi": .., "jsonSchema": .., "events": [..] }` on standard input: whether the
// one is a document of AsyncAPI 3.0, the other a schema, and each event is what the protocol's part of it says.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.argv[2]}/`);
const Ajv = require("ajv").default;
const formats = require("ajv-formats").default;
const { asyncApi, jsonSchema, events } = JSON.parse(readFileSync(0, "utf8"));

function check(validate, value, what) {
  if (validate(value)) return;
  console.error(what, JSON.stringify(value).slice(0, 300), JSON.stringify(validate.errors?.slice(0, 5), null, 1));
  process.exitCode = 1;
}

function ajv() {
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  formats(ajv);
  return ajv;
}

check(ajv().compile(require("@asyncapi/specs/schemas/3.0.0-without-$id.json")), asyncApi, "no AsyncAPI 3.0:");
const schema = ajv();
check(schema.getSchema("http://json-schema.org/draft-07/schema#"), jsonSchema, "no JSON Schema:");
schema.addSchema(jsonSchema, "rooms");
const event = schema.compile({ $ref: "rooms#/definitions/RoomsServerEvent" });
for (const one of events) check(event, one, "no event of the server's:");
if (event({ type: "room_joined", room: "post:1" })) {
  console.error("an event without its fields is let through");
  process.exitCode = 1;
}
