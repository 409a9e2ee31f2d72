// Asks the auth service who a caller is.

import { HttpError } from "./errors.js";
import { traceparent } from "./trace.js";

const TIMEOUT_MILLISECONDS = 3_000;

export class Identity {
  #me;

  constructor(authUrl) {
    this.#me = new URL("/auth/me", authUrl);
  }

  /** The id of the caller; throws what the caller is to be answered. */
  async customer(authorization) {
    if (!authorization) throw new HttpError(401, "log in first");
    const response = await this.#ask(authorization).catch(() => this.#ask(authorization)).catch(() => null);
    if (response?.status === 401) throw new HttpError(401, "log in first");
    if (!response?.ok) throw new HttpError(503, "cannot ask auth who you are");
    return (await response.json()).id;
  }

  #ask(authorization) {
    return fetch(this.#me, {
      headers: { authorization, traceparent: traceparent() },
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
    });
  }
}
