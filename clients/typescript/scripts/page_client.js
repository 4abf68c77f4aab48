// Makes `src/guide/rooms.js` of the library from the sources of this package: one readable module without types, for projects
// that have no bundler. A bundler would drop the comments.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { format } from "prettier";
import { transform } from "sucrase";

const SOURCES = new URL("../src/", import.meta.url);

/** Where the module is written to. */
export const PAGE_CLIENT = fileURLToPath(new URL("../../../src/guide/rooms.js", import.meta.url));

/** The text of the module: the entry first, and then each module that it needs, in the order in which they are named. */
export async function pageClient() {
  const { head, body, names } = collect("page.ts", { seen: new Set(), names: new Map() });
  const twice = [...names].filter(([, files]) => files.length > 1);
  if (twice.length > 0) throw new Error(`in several modules: ${twice.map(([name, files]) => `${name} (${files})`)}`);
  const rest = body.slice(1).map(text => text.replace(/^export /gm, ""));
  return format([head, body[0], ...rest].join("\n\n"), { parser: "babel", printWidth: 130, arrowParens: "avoid" });
}

function collect(file, { seen, names }) {
  seen.add(file);
  const source = readFileSync(new URL(file, SOURCES), "utf8");
  const imported = [...source.matchAll(/^import (?!type )[^;]*? from "\.\/(\w+)\.js";/gm)].filter(([text]) => !onlyTypes(text));
  const { code } = transform(source, { transforms: ["typescript"], disableESTransforms: true });
  // What was said of a type is of no use without it.
  const withoutTypes = code.replace(/^ *\/\*\*(?:(?!\*\/)[^])*\*\/\n(?=\s*\n)/gm, "");
  const text = withoutTypes.replace(/^import [^;]*;\n/gm, "").replace(/\n{3,}/g, "\n\n").trim();
  for (const [, name] of text.matchAll(/^(?:export )?(?:async )?(?:const|let|function|class) (\w+)/gm)) {
    names.set(name, [...(names.get(name) ?? []), file]);
  }
  const isEntry = seen.size === 1;
  const [head, own] = isEntry ? [text.slice(0, text.indexOf("\n\n")), text.slice(text.indexOf("\n\n"))] : ["", text];
  const body = [own];
  for (const [, name] of imported) {
    if (!seen.has(`${name}.ts`)) body.push(...collect(`${name}.ts`, { seen, names }).body);
  }
  return { head, body, names };
}

// `import { type A, type B } from`.
function onlyTypes(text) {
  const names = text.slice(text.indexOf("{") + 1, text.indexOf("}")).split(",");
  return names.every(name => name.trim().startsWith("type "));
}
