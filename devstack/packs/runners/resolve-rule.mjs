// Which names are looked up in the folder of packages, and whether before or after the usual places.
import { readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const notFound = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"]);

export function makeRule(folders) {
  const source = folders.source.replace(/\/*$/, "/");
  const packagesFolder = folders.packages.replace(/\/*$/, "/");
  const packagesFile = packagesFolder + "package.json";
  const asIfFromPackages = pathToFileURL(packagesFile).href;
  const ownName = nameOf(source);

  const isInTree = (parentURL) => {
    if (!parentURL?.startsWith("file:")) return false;
    const parent = fileURLToPath(parentURL);
    return parent.startsWith(source) && !parent.slice(source.length).split("/").includes("node_modules");
  };

  return {
    packagesFolder,
    packagesFile,
    // The parents to resolve from, one after the other; twice the same where nothing is changed.
    parents(specifier, parentURL) {
      const isMapped = specifier.startsWith("#"); // package.json may map it to a package
      const isMeant = isMapped || (isBare(specifier) && packageOf(specifier) !== ownName);
      if (!isMeant || !isInTree(parentURL)) return [parentURL, parentURL];
      return isMapped ? [parentURL, asIfFromPackages] : [asIfFromPackages, parentURL];
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
