export const settings = {
  host: process.env.GREETER_HOST ?? "127.0.0.1",
  port: Number(process.env.GREETER_PORT ?? 8080),
  ledger: process.env.LEDGER_ADDRESS ?? "http://ledger:8080",
};
