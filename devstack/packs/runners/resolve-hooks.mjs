// The import half of resolve.mjs for a Node without synchronous hooks; runs on the hooks' thread.
import { makeResolve } from "./resolve-rule.mjs";

let rule;

export function initialize(data) {
  rule = makeResolve(data);
}

export async function resolve(specifier, context, nextResolve) {
  const parentURL = rule.parentFor(specifier, context.parentURL);
  if (parentURL === undefined) return nextResolve(specifier, context);
  try {
    return await nextResolve(specifier, { ...context, parentURL });
  } catch (error) {
    if (!rule.isNotFound(error)) throw error;
    return nextResolve(specifier, context);
  }
}
