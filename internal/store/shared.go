package store

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/stagewire/stagewire/internal/hub"
)

// share replaces what a customer has of one sort and returns whose answer to shared() it changes.
//
// Who is told: with the first other customer who gets the same, both; with every further one, that one alone; the last who keeps
// it, when all others are gone. So a value that thousands have costs each of them the same.
func share(ctx context.Context, q querier, s hub.Sharing) ([]hub.Shared, error) {
	want := make([]string, 0, len(s.Values))
	for _, value := range s.Values {
		want = append(want, hex.EncodeToString(valueHash(s.What, value)))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	had := map[string]bool{} // by anybody who is this customer now
	own := map[string]bool{}
	for _, id := range append([]string{s.CustomerID}, s.Absorbed...) {
		err := each(ctx, q, "SELECT hash FROM shared WHERE customer_id = $1 AND what = $2 AND customer_id <> ''", []any{id, s.What}, func(scan func(...any) error) error {
			var hash string
			err := scan(&hash)
			had[hash] = true
			if id == s.CustomerID {
				own[hash] = true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	all := append([]string{}, want...)
	for hash := range had {
		all = append(all, hash)
	}
	slices.Sort(all) // every transaction locks in this order
	all = slices.Compact(all)
	if len(s.Absorbed) == 0 && len(all) == len(had) && len(want) == len(had) {
		return nil, nil // nothing is new and nothing is gone
	}
	before, err := sharers(ctx, q, s.What, s.CustomerID)
	if err != nil {
		return nil, err
	}
	for _, id := range s.Absorbed {
		if _, err := q.exec(ctx, "DELETE FROM shared WHERE customer_id = $1 AND what = $2", id, s.What); err != nil {
			return nil, err
		}
	}
	var touched []hub.Shared
	for _, hash := range all {
		wanted := slices.Contains(want, hash)
		if _, err := q.exec(ctx, `INSERT INTO shared (what, hash, customer_id, mention) VALUES ($1, $2, '', '')
			ON CONFLICT (what, hash, customer_id) DO UPDATE SET mention = ''`, s.What, hash); err != nil {
			return nil, err
		}
		switch {
		case wanted:
			if _, err := q.exec(ctx, `INSERT INTO shared (what, hash, customer_id, mention) VALUES ($1, $2, $3, $4)
				ON CONFLICT (what, hash, customer_id) DO UPDATE SET mention = excluded.mention`, s.What, hash, s.CustomerID, s.Mention); err != nil {
				return nil, err
			}
		case own[hash]:
			if _, err := q.exec(ctx, "DELETE FROM shared WHERE what = $1 AND hash = $2 AND customer_id = $3", s.What, hash, s.CustomerID); err != nil {
				return nil, err
			}
		}
		if wanted == own[hash] && len(s.Absorbed) == 0 {
			continue
		}
		var others []hub.Shared
		err := each(ctx, q, "SELECT customer_id, mention FROM shared WHERE what = $1 AND hash = $2 AND customer_id <> '' AND customer_id <> $3 ORDER BY customer_id LIMIT 2",
			[]any{s.What, hash, s.CustomerID}, func(scan func(...any) error) error {
				var o hub.Shared
				err := scan(&o.CustomerID, &o.Mention)
				others = append(others, o)
				return err
			})
		if err != nil {
			return nil, err
		}
		if len(others) == 1 && !slices.ContainsFunc(touched, func(o hub.Shared) bool { return o.CustomerID == others[0].CustomerID }) {
			touched = append(touched, others[0])
		}
	}
	for i := range touched {
		if touched[i].Others, err = sharers(ctx, q, s.What, touched[i].CustomerID); err != nil {
			return nil, err
		}
	}
	now, err := sharers(ctx, q, s.What, s.CustomerID)
	if err != nil {
		return nil, err
	}
	if now > 0 != (before > 0) || len(s.Absorbed) > 0 {
		touched = append(touched, hub.Shared{CustomerID: s.CustomerID, Mention: s.Mention, Others: now})
	}
	return touched, nil
}

// sharers returns how many others have what a customer has, counting up to ten.
func sharers(ctx context.Context, q querier, what, customerID string) (int, error) {
	var n int64
	err := one(ctx, q, `SELECT count(*) FROM (SELECT DISTINCT o.customer_id FROM shared m JOIN shared o ON o.what = m.what AND o.hash = m.hash
		WHERE m.customer_id = $1 AND m.customer_id <> '' AND m.what = $2 AND o.customer_id <> '' AND o.customer_id <> $3 LIMIT 10) found`, []any{customerID, what, customerID}, &n)
	return int(n), err
}
