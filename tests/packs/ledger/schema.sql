CREATE TABLE entries (
    id serial PRIMARY KEY,
    account text NOT NULL,
    cents bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO entries (account, cents) VALUES ('opening', 12500);
