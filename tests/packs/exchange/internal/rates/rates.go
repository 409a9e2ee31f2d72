// Package rates knows what one euro is worth.
package rates

import (
	"fmt"

	"golang.org/x/text/currency"
)

var perEuro = map[currency.Unit]float64{
	currency.EUR: 1,
	currency.USD: 1.25,
	currency.GBP: 0.8,
}

// Of returns how many of the currency one euro buys.
func Of(code string) (float64, error) {
	unit, err := currency.ParseISO(code)
	if err != nil {
		return 0, fmt.Errorf("%q is not a currency: %w", code, err)
	}
	rate, known := perEuro[unit]
	if !known {
		return 0, fmt.Errorf("no rate for %s", unit)
	}
	return rate, nil
}
