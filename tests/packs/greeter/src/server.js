import express from "express";
import { settings } from "./settings.js";

const app = express();

app.get("/healthz", (request, response) => {
  response.json({ ok: true });
});

// The whole chain: this service asks the ledger, which asks its database and the exchange.
app.get("/greet/:account", async (request, response) => {
  const currency = String(request.query.in ?? "EUR");
  const account = encodeURIComponent(request.params.account);
  const answer = await fetch(`${settings.ledger}/balance/${account}?to=${currency}`);
  if (!answer.ok) {
    response.status(502).json({ error: `the ledger says ${answer.status}` });
    return;
  }
  const { cents } = await answer.json();
  const amount = (cents / 100).toFixed(2);
  response.json({ greeting: `Good day, ${request.params.account}: ${amount} ${currency}` });
});

const server = app.listen(settings.port, settings.host, (error) => {
  if (error) throw error;
  console.log(`greeter on ${settings.host}:${settings.port}`);
});

process.once("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
