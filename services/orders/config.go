package main

import (
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/go-sql-driver/mysql"
)

// config is what the environment says.
type config struct {
	listen      string
	databaseURL *mysql.Config
	natsURL     string
	authURL     string
}

func loadConfig(getenv func(string) string) (config, error) {
	for _, name := range []string{"PORT", "DATABASE_URL", "NATS_URL", "AUTH_URL"} {
		if getenv(name) == "" {
			return config{}, fmt.Errorf("%s is not set", name)
		}
	}
	database, err := parseDatabaseURL(getenv("DATABASE_URL"))
	if err != nil {
		return config{}, err
	}
	host := getenv("HOST")
	if host == "" {
		host = "127.0.0.1"
	}
	return config{
		listen:      net.JoinHostPort(host, getenv("PORT")),
		databaseURL: database,
		natsURL:     getenv("NATS_URL"),
		authURL:     getenv("AUTH_URL"),
	}, nil
}

// parseDatabaseURL reads mysql://user:password@host:port/database, which everybody writes, into the
// driver's own form. Errors do not repeat the URL: it holds a password.
func parseDatabaseURL(text string) (*mysql.Config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "mysql" || u.Hostname() == "" || len(u.Path) < 2 {
		return nil, fmt.Errorf("DATABASE_URL is not of the form mysql://user:password@host:port/database")
	}
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	cfg := mysql.NewConfig()
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.Net = "tcp"
	cfg.Addr = net.JoinHostPort(u.Hostname(), port)
	cfg.DBName = u.Path[1:]
	cfg.ParseTime = true
	cfg.Timeout = 2 * time.Second
	cfg.ReadTimeout = 10 * time.Second
	cfg.WriteTimeout = 10 * time.Second
	return cfg, nil
}
