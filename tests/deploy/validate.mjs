// node validate.mjs <node_modules> <schemas>, with a list of `{ "kind": "compose" | "kubernetes" | "datasources" | .., "text": "<YAML>" }`
// on standard input: writes for each `{ "documents": [..], "faults": ".." }`: what it says, and what its schema does not allow.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const [packages, schemas] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const Ajv = require("ajv/dist/2020").default;
const formats = require("ajv-formats").default;
const { parseAllDocuments } = require("yaml");

const read = path => JSON.parse(readFileSync(path, "utf8"));

function ajv(options = {}) {
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false, ...options });
  formats(ajv);
  return ajv;
}

const releases = ["1.30", "1.37"].map(release => {
  const all = ajv();
  const { $defs } = read(`${schemas}/kubernetes-${release}.json`);
  all.addSchema({ $id: "kubernetes", $defs });
  const names = new Map();
  for (const [name, { "x-kubernetes-group-version-kind": kinds = [] }] of Object.entries($defs)) {
    for (const { group, version, kind } of kinds) names.set(`${group ? `${group}/` : ""}${version} ${kind}`, name);
  }
  return { release, all, names };
});
const { $schema, ...composeSchema } = read(`${schemas}/compose.json`);
const compose = ajv().compile(composeSchema);
const grafana = ajv().compile(read(fileURLToPath(new URL("grafana.schema.json", import.meta.url))));

const said = (validate, value, what) => validate(value) ? [] :
  validate.errors.map(({ instancePath, message, params }) => `${what}${instancePath} ${message} ${JSON.stringify(params)}`);

function kubernetes(object) {
  return releases.flatMap(({ release, all, names }) => {
    const what = `${object.apiVersion} ${object.kind}`;
    const name = names.get(what);
    if (!name) return [`Kubernetes ${release} has no ${what}`];
    return said(all.getSchema(`kubernetes#/$defs/${name}`), object, `Kubernetes ${release}: ${what}: `);
  });
}

const check = { compose: file => said(compose, file, ""), kubernetes, grafana: file => said(grafana, file, "") };

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(({ kind, text }) => {
  const parsed = parseAllDocuments(text, { merge: true });
  const errors = parsed.flatMap(one => one.errors);
  const documents = [];
  try {
    documents.push(...parsed.map(one => one.toJS()));
  } catch (error) {
    errors.push(error);    // an alias of nothing
  }
  const faults = [...errors.map(String), ...documents.flatMap(one => check[kind]?.(one) ?? [])];
  return { documents, faults: faults.slice(0, 10).join("\n") };
})));
