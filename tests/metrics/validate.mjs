// node validate.mjs <node_modules>, with a list of `{ "dashboard": .. }` and `{ "alerts": "<YAML>" }` on standard input: writes
// what is wrong with each, or an empty text. A dashboard has the fields of Grafana's own types, which are made into a schema, and no
// others; `schema.json` beside this file is what those leave open, and the alert rules.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const packages = process.argv[2];
const require = createRequire(`${packages}/`);
const Ajv = require("ajv").default;
const { createGenerator } = require("ts-json-schema-generator");
const { parse } = require("yaml");

const beside = name => fileURLToPath(new URL(name, import.meta.url));

function grafana(folder, type) {
  const path = `${packages}/@grafana/schema/dist/types/raw/${folder}/x/types.gen.d.ts`;
  const generator = createGenerator({ path, type, tsconfig: beside("tsconfig.json"), skipTypeCheck: true });
  return { ...generator.createSchema(type), $id: `${folder}/${type}` };
}

const ajv = new Ajv({ strict: false, allErrors: true });
ajv.addSchema([
  grafana("dashboard", "Dashboard"),
  grafana("composable/timeseries/panelcfg", "Options"),
  grafana("composable/timeseries/panelcfg", "FieldConfig"),
  JSON.parse(readFileSync(beside("schema.json"), "utf8")),
]);

function faults(name, value) {
  const validate = ajv.getSchema(`rooms#/definitions/${name}`);
  if (validate(value)) return "";
  const lines = validate.errors.map(({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`);
  return lines.slice(0, 10).join("\n");
}

const files = JSON.parse(readFileSync(0, "utf8"));
const all = files.map(({ dashboard, alerts }) => dashboard ? faults("dashboard", dashboard) : faults("alerts", parse(alerts)));
console.log(JSON.stringify(all));
