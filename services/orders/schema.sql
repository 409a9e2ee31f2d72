-- Run at every start, by every replica: each statement must be harmless the second time.

CREATE TABLE IF NOT EXISTS orders (
    id         CHAR(32)     NOT NULL PRIMARY KEY,
    customer   VARCHAR(64)  NOT NULL,
    item       VARCHAR(200) NOT NULL,
    amount     BIGINT       NOT NULL,
    status     VARCHAR(16)  NOT NULL,
    created_at DATETIME(6)  NOT NULL,
    INDEX orders_customer (customer, created_at)
) CHARACTER SET utf8mb4;

-- Events that the broker has not acknowledged yet.
CREATE TABLE IF NOT EXISTS outbox (
    id          BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message_id  VARCHAR(64) NOT NULL UNIQUE,
    subject     VARCHAR(64) NOT NULL,
    payload     TEXT        NOT NULL,
    traceparent VARCHAR(64) NOT NULL
) CHARACTER SET utf8mb4;
