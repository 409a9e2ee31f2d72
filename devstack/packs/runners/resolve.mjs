// Lets a working tree find packages that lie in a folder of their own, for import and require alike.
//
// Loaded with --import and two folders in its address: `source`, the tree whose imports are meant,
// and `packages`, the folder that holds node_modules. Only a bare name asked for by a file of the
// tree is looked up there, and first; what is not there is resolved as usual. Packages among
// themselves, other programs and relative paths are left alone.
import * as module from "node:module";
import { pathToFileURL } from "node:url";
import { makeRule } from "./resolve-rule.mjs";

const place = new URL(import.meta.url).searchParams;
const folders = { source: place.get("source"), packages: place.get("packages") };
const rule = makeRule(folders);

// import: hooks on this thread where Node has them, else (Node 20) on a thread of their own.
if (typeof module.registerHooks === "function") {
  module.registerHooks({
    resolve(specifier, context, nextResolve) {
      if (context.conditions.includes("require")) return nextResolve(specifier, context);
      const [first, second] = rule.parents(specifier, context.parentURL);
      try {
        return nextResolve(specifier, { ...context, parentURL: first });
      } catch (error) {
        if (second === first || !rule.isNotFound(error)) throw error;
        return nextResolve(specifier, { ...context, parentURL: second });
      }
    },
  });
} else {
  module.register("./resolve-hooks.mjs", import.meta.url, { data: folders });
}

// require: the CommonJS loader takes no other parent from hooks, so its own function is wrapped.
const { Module } = module.default;
const resolveFilename = Module._resolveFilename;
const packagesAsParent = {
  id: rule.packagesFile,
  filename: rule.packagesFile,
  paths: Module._nodeModulePaths(rule.packagesFolder),
};
Module._resolveFilename = function (request, parent, isMain, options) {
  if (!parent?.filename || options?.paths) return resolveFilename.apply(this, arguments);
  const usual = pathToFileURL(parent.filename).href;
  const [first, second] = rule.parents(request, usual);
  const from = (url) => (url === usual ? parent : packagesAsParent);
  try {
    return resolveFilename.call(this, request, from(first), isMain, options);
  } catch (error) {
    if (second === first || !rule.isNotFound(error)) throw error;
    return resolveFilename.call(this, request, from(second), isMain, options);
  }
};
