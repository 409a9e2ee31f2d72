// Which names are looked up in the folder of packages.
import { readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const notFound = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"]);

export function makeResolve({ source, packages }) {
  const ownName = nameOf(source);
  const asIfFrom = pathToFileURL(packages + "package.json").href;
  return {
    // The address to resolve from instead, or undefined where nothing is changed.
    parentFor(specifier, parentURL) {
      if (!isBare(specifier) || packageOf(specifier) === ownName) return undefined;
      if (!parentURL?.startsWith("file:")) return undefined;
      const parent = fileURLToPath(parentURL);
      if (!parent.startsWith(source)) return undefined;
      if (parent.slice(source.length).split("/").includes("node_modules")) return undefined;
      return asIfFrom;
    },
    isNotFound: (error) => notFound.has(error?.code),
  };
}

function isBare(specifier) {
  return /^[^./#]/.test(specifier) && !/^[a-z][a-z0-9+.-]*:/i.test(specifier) && !isBuiltin(specifier);
}

function packageOf(specifier) {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

function nameOf(folder) {
  try {
    return JSON.parse(readFileSync(folder + "package.json", "utf8")).name;
  } catch {
    return undefined;
  }
}
