// Usage: node validate.mjs <schemas directory>
// Parses asyncapi.yaml with AsyncAPI's own parser, and checks each vectors/v1/{schema}.{case}.json against
// {schema}.schema.json with ajv, as each examples/{schema}.json. Prints {"addresses": [...], "vectors": n,
// "examples": n}; problems go to stderr, exit 1.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { fromFile, Parser } from "@asyncapi/parser";
import Ajv2020 from "ajv/dist/2020.js";

const dir = process.argv[2];
const problems = [];
const schemaOf = (name) => JSON.parse(readFileSync(join(dir, `${name}.schema.json`), "utf8"));

const { document, diagnostics } = await fromFile(new Parser(), join(dir, "asyncapi.yaml")).parse();
for (const { severity, message, path } of diagnostics) {
  // 0 is an error, 1 a warning; the rest is advice.
  if (severity <= 1) problems.push(`asyncapi.yaml: ${path.join(".")}: ${message}`);
}
if (!document) problems.push("asyncapi.yaml: the parser gave no document");

const ajv = new Ajv2020({ strict: true, strictTypes: false, allErrors: true });
const validators = new Map();
const check = (folder) => {
  const files = readdirSync(join(dir, folder)).filter((name) => name.endsWith(".json"));
  for (const file of files) {
    const schema = file.split(".")[0];
    if (!validators.has(schema)) validators.set(schema, ajv.compile(schemaOf(schema)));
    const validate = validators.get(schema);
    if (!validate(JSON.parse(readFileSync(join(dir, folder, file), "utf8")))) {
      problems.push(`${file}: ${ajv.errorsText(validate.errors)}`);
    }
  }
  return files.length;
};
const vectors = check("vectors/v1");
const examples = check("examples");

if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
const addresses = document.channels().all().map((channel) => channel.address());
console.log(JSON.stringify({ addresses, vectors, examples }));
