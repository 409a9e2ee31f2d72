// The import half of resolve.mjs for a Node without synchronous hooks; runs on the hooks' thread.
import { makeRule } from "./resolve-rule.mjs";

let rule;

export function initialize(folders) {
  rule = makeRule(folders);
}

export async function resolve(specifier, context, nextResolve) {
  const [first, second] = rule.parents(specifier, context.parentURL);
  try {
    return await nextResolve(specifier, { ...context, parentURL: first });
  } catch (error) {
    if (second === first || !rule.isNotFound(error)) throw error;
    return nextResolve(specifier, { ...context, parentURL: second });
  }
}
