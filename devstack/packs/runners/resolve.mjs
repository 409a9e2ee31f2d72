// Lets a working tree find packages that lie in a folder of their own, for import and require alike.
//
// Loaded with --import and two folders in its address: `source`, the tree whose imports are meant,
// and `packages`, the folder that holds node_modules. Only a bare name asked for by a file of the
// tree is looked up there, and first; what is not there is resolved as usual. Packages among
// themselves, other programs and relative paths are left alone.
import * as module from "node:module";
import { pathToFileURL } from "node:url";
import { makeResolve } from "./resolve-rule.mjs";

const place = new URL(import.meta.url).searchParams;
const source = place.get("source").replace(/\/*$/, "/");
const packages = place.get("packages").replace(/\/*$/, "/");
const rule = makeResolve({ source, packages });

if (typeof module.registerHooks === "function") {
  module.registerHooks({
    resolve(specifier, context, nextResolve) {
      const parentURL = rule.parentFor(specifier, context.parentURL);
      if (parentURL === undefined) return nextResolve(specifier, context);
      try {
        return nextResolve(specifier, { ...context, parentURL });
      } catch (error) {
        if (!rule.isNotFound(error)) throw error;
        return nextResolve(specifier, context);
      }
    },
  });
} else {
  // Node 20: imports go through hooks on a thread of their own, require through the CommonJS loader.
  module.register("./resolve-hooks.mjs", import.meta.url, { data: { source, packages } });
  const { Module } = module.default;
  const resolveFilename = Module._resolveFilename;
  Module._resolveFilename = function (request, parent, isMain, options) {
    const from = parent?.filename;
    const parentURL =
      from && !options?.paths ? rule.parentFor(request, pathToFileURL(from).href) : undefined;
    if (parentURL !== undefined) {
      try {
        return resolveFilename.call(this, request, parent, isMain, { paths: [packages] });
      } catch (error) {
        if (!rule.isNotFound(error)) throw error;
      }
    }
    return resolveFilename.apply(this, arguments);
  };
}
