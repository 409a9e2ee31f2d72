// The business: whom we give credit.

const LIMIT = 100_000;

export function decide(amount) {
  return amount > LIMIT ? "declined" : "captured";
}
