package main

import "testing"

func TestDatabaseURLBecomesTheDriversConfig(t *testing.T) {
	cfg, err := parseDatabaseURL("mysql://shop:p%40ss%2Fword@orders-db:3307/orders")
	if err != nil {
		t.Fatal(err)
	}

	if cfg.User != "shop" || cfg.Passwd != "p@ss/word" || cfg.Addr != "orders-db:3307" || cfg.DBName != "orders" {
		t.Errorf("config = %+v", cfg)
	}
}

func TestOtherDatabaseURLsAreRefused(t *testing.T) {
	for _, text := range []string{"", "postgres://a:b@c/d", "mysql://a:b@c", "mysql://a:b@c/", "mysql:///d", "://"} {
		if _, err := parseDatabaseURL(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestMissingVariableIsNamed(t *testing.T) {
	_, err := loadConfig(func(name string) string {
		if name == "NATS_URL" {
			return ""
		}
		return "something"
	})

	if err == nil || err.Error() != "NATS_URL is not set" {
		t.Errorf("error = %v", err)
	}
}
