package hub

import (
	"fmt"
	"strings"

	"github.com/govalues/decimal"
)

// Money is an exact amount in one ISO 4217 currency. Amounts of different currencies never add up or compare.
type Money struct {
	Amount   decimal.Decimal
	Currency string // three capital letters
}

// ParseMoney reads an amount as vendors write it ("54.90") and its currency. It wraps ErrInvalid.
func ParseMoney(amount, currency string) (Money, error) {
	currency = strings.ToUpper(strings.TrimSpace(currency))
	if len(currency) != 3 {
		return Money{}, fmt.Errorf("money %q: currency %q is not three letters: %w", amount, currency, ErrInvalid)
	}
	for i := range 3 {
		if currency[i] < 'A' || currency[i] > 'Z' {
			return Money{}, fmt.Errorf("money %q: currency %q is not three letters: %w", amount, currency, ErrInvalid)
		}
	}
	d, err := decimal.Parse(strings.TrimSpace(amount))
	if err != nil {
		return Money{}, fmt.Errorf("money: amount %q is not a decimal number of at most 19 digits: %w", amount, ErrInvalid)
	}
	return Money{Amount: d, Currency: currency}, nil
}

// IsZero reports whether m is the zero value, which has no currency.
func (m Money) IsZero() bool { return m.Currency == "" }

// Add returns m plus o. It wraps ErrInvalid for two currencies or more than 19 digits.
func (m Money) Add(o Money) (Money, error) {
	if m.Currency != o.Currency {
		return Money{}, fmt.Errorf("add %s to %s: currencies differ: %w", o, m, ErrInvalid)
	}
	sum, err := m.Amount.Add(o.Amount)
	if err != nil {
		return Money{}, fmt.Errorf("add %s to %s: %w: %w", o, m, err, ErrInvalid)
	}
	return Money{Amount: sum, Currency: m.Currency}, nil
}

// String gives "54.90 USD".
func (m Money) String() string { return m.Amount.String() + " " + m.Currency }
