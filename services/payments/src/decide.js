// The business: whom we give credit.

const LIMIT = 100_000;

/** An amount that is none is declined: whoever ordered is told, instead of waiting for ever. */
export function decide(amount) {
  return Number.isSafeInteger(amount) && amount > 0 && amount <= LIMIT ? "captured" : "declined";
}
